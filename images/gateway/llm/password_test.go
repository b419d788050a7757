package llm

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	caddy "github.com/caddyserver/caddy/v2"
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

// authFor is an llm_auth that reads a fixed directory.
func authFor(d *directory, addresses *AddressLimits) *Auth {
	a := &Auth{source: newSource("", time.Now), Addresses: addresses}
	a.source.active.Store(d)
	if addresses != nil {
		a.zone = newZone(addresses.Zone)
	}
	return a
}

func TestPasswords(t *testing.T) {
	d, now := withPassword(t, "correct horse", ""), time.Now()
	auth := authFor(d, nil)
	as := func(user, password string) presented { return presented{schemeBasic, user, password} }
	try := func(shown presented) *credential {
		cred, refusal := auth.byAddress(httptest.NewRequest("GET", "/", nil), shown, nil, now)
		if (cred == nil) == (refusal == nil) || refusal != nil && refusal != errBadKey {
			t.Errorf("%+v: %v %v", shown, cred, refusal)
		}
		return cred
	}
	for _, wrong := range []presented{as("ann", "wrong"), as("bob", "correct horse"), as("eve", "correct horse"), as("ann", ""), as("", "correct horse"),
		as("ann", "correct horse"+strings.Repeat("x", longestPassword)), as("eve", "nobody's password"), as("bob", "nobody's password")} {
		if try(wrong) != nil || d.remembered(wrong, now) != nil {
			t.Errorf("%+v may come in", wrong)
		}
	}
	right := as("ann", "correct horse")
	if d.remembered(right, now) != nil {
		t.Error("remembered before it was compared")
	}
	cred := try(right)
	if cred == nil || cred.consumer.Name != "ann" {
		t.Fatalf("%v", cred)
	}
	if d.remembered(right, now) != cred || d.remembered(right, time.Now().Add(rememberPassword)) != nil {
		t.Error("it should be remembered, and for a time only")
	}
	if d.find(cred.hash, now) != cred {
		t.Error("an open request of it would be ended")
	}
	if changed := withPassword(t, "another one", ""); changed.remembered(right, now) != nil || changed.find(cred.hash, now) != nil {
		t.Error("the old password outlives its change")
	}
	late := withPassword(t, "correct horse", `,"expires":"2020-01-01T00:00:00Z"`)
	if cred, refusal := authFor(late, nil).byPassword(t.Context(), "", right); cred != nil || refusal != errBadKey {
		t.Error("an expired consumer may come in")
	}
}

// A browser sends many requests at once with a password: one is hashed, the others see
// what came of it when it is their turn.
func TestWhatWasFoundGoodWhileWaitingIsNotHashedAgain(t *testing.T) {
	d := withPassword(t, "correct horse", "")
	shown := presented{schemeBasic, "ann", "stands for one that takes long"}
	goodPasswords.add(derive("password", "ann", string(d.consumers["ann"].PasswordBcrypt), shown.key), time.Now())
	if cred, refusal := authFor(d, nil).byPassword(t.Context(), "a", shown); cred == nil {
		t.Errorf("hashed again: %v", refusal)
	}
}

func TestAHashIsNoPasswordAndNoKey(t *testing.T) {
	d := withPassword(t, "correct horse", "")
	hash := string(d.consumers["ann"].PasswordBcrypt)
	if d.hasPassword(presented{schemeBasic, "ann", hash}) {
		t.Error("the hash is taken for the password")
	}
	if d.find(hashKey(hash), time.Now()) != nil {
		t.Error("the hash is taken for a key")
	}
}

// A password that bcrypt would cut is refused before it is cut.
func TestNoPasswordIsLongerThanBcryptReads(t *testing.T) {
	longest := strings.Repeat("x", longestPassword)
	d := withPassword(t, longest, "")
	if !d.mayBePassword(presented{schemeBasic, "ann", longest}) || !d.hasPassword(presented{schemeBasic, "ann", longest}) {
		t.Error("the longest password is refused")
	}
	if d.mayBePassword(presented{schemeBasic, "ann", longest + "y"}) {
		t.Error("a longer one with the same beginning would pass")
	}
}

func TestNamesWithoutAPasswordTakeAsLong(t *testing.T) {
	d := withPassword(t, "correct horse", "")
	if cost, err := bcrypt.Cost(d.decoy); err != nil || cost != bcrypt.MinCost {
		t.Errorf("the decoy has cost %d (%v)", cost, err)
	}
	took := func(user string) time.Duration {
		best := time.Hour
		for range 20 {
			started := time.Now()
			d.hasPassword(presented{schemeBasic, user, "wrong"})
			best = min(best, time.Since(started))
		}
		return best
	}
	known, without, unknown := took("ann"), took("bob"), took("eve")
	if slowest, fastest := max(known, without, unknown), min(known, without, unknown); slowest > 2*fastest {
		t.Errorf("known %v, without a password %v, unknown %v", known, without, unknown)
	}
}

func TestWithoutPasswordsNothingIsHashed(t *testing.T) {
	d, err := parseConsumers([]byte(`{"version":1,"consumers":[{"name":"bob"}]}`))
	if err != nil || d.mayBePassword(presented{schemeBasic, "bob", "x"}) {
		t.Errorf("%v", err)
	}
	if with := withPassword(t, "x", ""); with.mayBePassword(presented{schemeBearer, "", "x"}) {
		t.Error("a Bearer key is hashed as a password")
	}
}

// Whoever floods with wrong passwords is banned after the last one allowed, whatever
// was already under way.
func TestAFloodOfPasswordsIsHashedNoOftenerThanAllowed(t *testing.T) {
	failures := Failures{Rate: every(time.Hour, 3, 0), Ban: caddy.Duration(time.Minute), LongestBan: caddy.Duration(time.Hour)}
	auth := authFor(withPassword(t, "correct horse", ""), &AddressLimits{Zone: t.Name(), Rate: every(time.Second, 1000, 0), Failures: failures})
	answers := make(chan int, 64)
	for i := range cap(answers) {
		go func() {
			r := httptest.NewRequest("GET", "/", nil)
			_, refusal := auth.byAddress(r, presented{schemeBasic, "ann", fmt.Sprint("guess ", i)}, nil, time.Now())
			answers <- refusal.Status
		}()
	}
	count := map[int]int{}
	for range cap(answers) {
		count[<-answers]++
	}
	if count[401] != 3 || count[429] != 61 {
		t.Errorf("answers %v", count)
	}
	other := httptest.NewRequest("GET", "/", nil)
	other.RemoteAddr = "198.51.100.9:1"
	if cred, refusal := auth.byAddress(other, presented{schemeBasic, "ann", "correct horse"}, nil, time.Now()); cred == nil {
		t.Errorf("from another address: %v", refusal)
	}
}
