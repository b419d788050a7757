package llm

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParseConsumers(t *testing.T) {
	hash := hashText("k")
	d, err := parseConsumers([]byte(`{"version":1,"consumers":[{"name":"default","keys":[{"sha256":"` + strings.ToUpper(hash) + `","expires":null},
		{"sha256":"` + hashText("old") + `","expires":"2027-01-31T00:00:00Z"}],"scopes":["chat"],"models":["a"],"requests_per_minute":60,"concurrent_streams":null,"expires":null}]}`))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2027, 1, 30, 23, 59, 59, 0, time.UTC)
	if c := d.find(hashKey("old"), now); c == nil || c.consumer.Name != "default" || c.consumer.RequestsPerMinute != 60 || c.consumer.ConcurrentStreams != 0 {
		t.Errorf("%+v", c)
	}
	if d.find(hashKey("old"), now.Add(time.Second)) != nil || d.find(hashKey("k"), now.Add(time.Second)) == nil || d.find(hashKey("x"), now) != nil {
		t.Error("expiry of one key must not touch another")
	}
	who := d.consumers["default"]
	if who.mayUse("b", "b") || !who.mayUse("a", "b") || !who.mayUse("alias", "a") {
		t.Error("models allowed by name or id")
	}
}

func TestLimitsInTheConsumersFile(t *testing.T) {
	d, err := parseConsumers([]byte(`{"version":1,"consumers":[{"name":"a","requests_per_minute":30,"burst":0,"tokens_per_minute":1000,
		"tokens_per_day":2000,"max_output_tokens":64,"max_body":1048576,"max_duration":90}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c := d.consumers["a"]
	if c.RequestsPerMinute != 30 || c.Burst != 0 || c.TokensPerMinute != 1000 || c.TokensPerDay != 2000 ||
		c.MaxOutputTokens != 64 || c.MaxBody != 1<<20 || c.MaxDuration != 90*time.Second {
		t.Errorf("%+v", c)
	}
}

func TestBadConsumersFilesAreRefusedWhole(t *testing.T) {
	good := func(more string) string {
		return fmt.Sprintf(`{"version":1,"consumers":[{"name":"a","keys":[{"sha256":%q}]%s}]}`, hashText("k"), more)
	}
	if _, err := parseConsumers([]byte(good(""))); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ raw, want string }{
		"empty":             {``, "not a consumers file"},
		"half":              {good("")[:40], "not a consumers file"},
		"two":               {good("") + good(""), "after the JSON"},
		"version":           {`{"version":2,"consumers":[]}`, "version is 2"},
		"unknown member":    {good(`,"rpm":1`), "unknown field"},
		"unknown scope":     {good(`,"scopes":["chatt"]`), `unknown scope "chatt": allowed are chat`},
		"zero limit":        {good(`,"requests_per_minute":0`), "from 1 to"},
		"negative limit":    {good(`,"concurrent_streams":-1`), "from 1 to"},
		"negative burst":    {good(`,"burst":-1`), "burst is -1"},
		"no tokens":         {good(`,"tokens_per_day":0`), "tokens_per_day is 0"},
		"no time":           {good(`,"max_duration":0`), "max_duration is 0"},
		"no hash":           {good(`,"password_bcrypt":"hunter2"`), "not a bcrypt hash"},
		"costly hash":       {good(`,"password_bcrypt":"$2b$14$abcdefghijklmnopqrstuuKAdnX1Dk8AzFIO5YtwzM4jZMaKOgyha"`), "cost 14"},
		"bad time":          {good(`,"expires":"tomorrow"`), "RFC 3339"},
		"empty model":       {good(`,"models":[""]`), "empty"},
		"bad name":          {strings.Replace(good(""), `"name":"a"`, `"name":"A b"`, 1), "name must be"},
		"short hash":        {strings.Replace(good(""), hashText("k"), "abcd", 1), "64 hexadecimal"},
		"hash of no key":    {strings.Replace(good(""), hashText("k"), hashText(""), 1), "empty key"},
		"same name":         {`{"version":1,"consumers":[{"name":"a"},{"name":"a"}]}`, "twice"},
		"same key":          {fmt.Sprintf(`{"version":1,"consumers":[{"name":"a","keys":[{"sha256":%[1]q}]},{"name":"b","keys":[{"sha256":%[1]q}]}]}`, hashText("k")), "same key"},
		"larger than bound": {strings.Repeat(" ", maxConsumersFile+1), "larger than"},
	} {
		if d, err := parseConsumers([]byte(c.raw)); err == nil || d != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
