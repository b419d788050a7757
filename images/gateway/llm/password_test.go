package llm

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func withPassword(t *testing.T, password, more string) *directory {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	quoted, _ := json.Marshal(string(hash))
	d, err := parseConsumers([]byte(`{"version":1,"consumers":[{"name":"ann","keys":[{"sha256":"` + hashText("sk-ann") + `"}],"password_bcrypt":` +
		string(quoted) + more + `},{"name":"bob","keys":[{"sha256":"` + hashText("sk-bob") + `"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPasswords(t *testing.T) {
	d, now := withPassword(t, "correct horse", ""), time.Now()
	as := func(user, password string) presented { return presented{schemeBasic, user, password} }
	for _, wrong := range []presented{as("ann", "wrong"), as("bob", "correct horse"), as("eve", "correct horse"), as("ann", ""), as("", "correct horse"),
		as("ann", "correct horse"+strings.Repeat("x", longestPassword))} {
		if cred, err := d.byPassword(t.Context(), wrong, now); cred != nil || err != nil {
			t.Errorf("%+v: %v %v", wrong, cred, err)
		}
		if d.remembered(wrong, now) != nil {
			t.Errorf("%+v is remembered", wrong)
		}
	}
	right := as("ann", "correct horse")
	if d.remembered(right, now) != nil {
		t.Error("remembered before it was compared")
	}
	cred, err := d.byPassword(t.Context(), right, now)
	if err != nil || cred == nil || cred.consumer.Name != "ann" {
		t.Fatalf("%v %v", cred, err)
	}
	if d.remembered(right, now) != cred || d.remembered(right, now.Add(rememberPassword)) != nil {
		t.Error("it should be remembered, and for a time only")
	}
	if d.find(cred.hash, now) != cred {
		t.Error("an open request of it would be ended")
	}
	if changed := withPassword(t, "another one", ""); changed.remembered(right, now) != nil || changed.find(cred.hash, now) != nil {
		t.Error("the old password outlives its change")
	}
	if late := withPassword(t, "correct horse", `,"expires":"2020-01-01T00:00:00Z"`); late.find(passwordKey(late.consumers["ann"]), now) != nil {
		t.Error("an expired consumer may come in")
	}
}

func TestAHashIsNoPasswordAndNoKey(t *testing.T) {
	d, now := withPassword(t, "correct horse", ""), time.Now()
	hash := string(d.consumers["ann"].PasswordBcrypt)
	if cred, _ := d.byPassword(t.Context(), presented{schemeBasic, "ann", hash}, now); cred != nil {
		t.Error("the hash is taken for the password")
	}
	if d.find(hashKey(hash), now) != nil {
		t.Error("the hash is taken for a key")
	}
}

func TestAClientThatLeavesWaitsForNoHashing(t *testing.T) {
	d := withPassword(t, "correct horse", "")
	for range cap(hashing) {
		hashing <- struct{}{}
	}
	defer func() {
		for range cap(hashing) {
			<-hashing
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if cred, err := d.byPassword(ctx, presented{schemeBasic, "ann", "correct horse"}, time.Now()); cred != nil || err == nil {
		t.Errorf("%v %v", cred, err)
	}
}

func TestWithoutPasswordsNothingIsHashed(t *testing.T) {
	d, err := parseConsumers([]byte(`{"version":1,"consumers":[{"name":"bob"}]}`))
	if err != nil || d.passwords {
		t.Fatal(err)
	}
	for range cap(hashing) {
		hashing <- struct{}{}
	}
	cred, err := d.byPassword(t.Context(), presented{schemeBasic, "bob", "x"}, time.Now())
	for range cap(hashing) {
		<-hashing
	}
	if cred != nil || err != nil {
		t.Errorf("%v %v", cred, err)
	}
}
