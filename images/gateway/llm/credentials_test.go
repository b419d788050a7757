package llm

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestParseAuthorization(t *testing.T) {
	for value, want := range map[string]presented{
		"Bearer sk-1":             {schemeBearer, "", "sk-1"},
		"bEARER   sk-1":           {schemeBearer, "", "sk-1"},
		basic("chat", "sk:with:"): {schemeBasic, "chat", "sk:with:"},
	} {
		if got, ok := parseAuthorization(value); !ok || got != want {
			t.Errorf("%q: %+v %v", value, got, ok)
		}
	}
	for _, value := range []string{"", "Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "sk-1", "Basic", "Basic !!!", basic("", "x"),
		basic("x", ""), "Basic " + base64.StdEncoding.EncodeToString([]byte("nocolon")), "Digest x", "Bearer " + strings.Repeat("x", maxCredential+1)} {
		if got, ok := parseAuthorization(value); ok {
			t.Errorf("%q passes as %+v", value, got)
		}
	}
}

func TestEveryCredentialHeaderIsRemoved(t *testing.T) {
	h := http.Header{"Accept": {"x"}, "X_api_key": {"k"}, "X.Api.Key": {"k"}, "Cookie": {"a=b"}, "Api-Key": {"k"}}
	if _, refusal := takeCredentials(h, false); refusal == nil || refusal.Status != 401 {
		t.Errorf("refusal: %+v", refusal)
	}
	if len(h) != 1 || h.Get("Accept") != "x" {
		t.Errorf("left: %v", h)
	}
	h = http.Header{"Authorization": {"Bearer k"}, "Cookie": {"a=b"}}
	if p, refusal := takeCredentials(h, false); refusal != nil || p.key != "k" || len(h) != 0 {
		t.Errorf("a cookie beside a key: %+v %+v %v", p, refusal, h)
	}
}
