package llm

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// twin is a gateway in front of two instances of one engine, and of a smaller engine
// whose model is the fallback. It has a second consumer, whose name ends in "-too".
func twin(t *testing.T, consumer string, with map[string]any) (g *gateway, one, two, other *engine) {
	t.Helper()
	one, two, other = newEngine(t), newEngine(t), newEngine(t)
	engines := object{
		"twin":  object{"instances": []string{one.dial(), two.dial()}, "max_in_flight": 3},
		"other": object{"instances": []string{other.dial()}},
	}
	models := []object{
		{"id": "big", "engine": "twin", "upstream_name": "up-big", "fallback": "small"},
		{"id": "alone", "engine": "twin", "upstream_name": "up-alone"},
		{"id": "tiny", "engine": "other", "upstream_name": "up-tiny", "aliases": []string{"small"}},
		{"id": "busy", "engine": "other", "max_in_flight": 1, "requests_per_minute": 2},
	}
	return startCatalog(t, engines, models, spec(consumer, with), spec(consumer+"-too", with)), one, two, other
}

func TestAnEngineThatFailsIsReplacedBeforeTheFirstByte(t *testing.T) {
	g, one, two, other := twin(t, "steady", nil)
	for _, c := range []struct {
		status int
		reason string
	}{{503, "overloaded"}, {429, "overloaded"}, {500, "failed"}, {502, "failed"}} {
		t.Run(fmt.Sprintf("one of two says %d", c.status), func(t *testing.T) {
			retries := func() float64 {
				return g.counted("gateway_llm_retries_total", `model="alone"`, `reason="`+c.reason+`"`)
			}
			before := retries()
			one.refuses(c.status, `{"error":"boom"}`)
			two.answers(nil)
			for range 2 { // equals take turns: one of them comes to the broken one first
				status, text, header := g.ask("POST", chat, keyOf("steady"), `{"model":"alone","stream":true}`)
				if status != 200 || text != sseHello+sseDone || header.Get("X-Engine") != "" {
					t.Errorf("%d %q %v", status, text, header)
				}
			}
			if n := retries() - before; n != 1 {
				t.Errorf("%v retries are counted", n)
			}
		})
	}
	t.Run("both fail, the fallback answers", func(t *testing.T) {
		one.refuses(500, "{}")
		two.refuses(500, "{}")
		status, text, _ := g.ask("POST", chat, keyOf("steady"), `{"model":"big","stream":true}`)
		if status != 200 || text != sseHello+sseDone {
			t.Errorf("%d %q", status, text)
		}
		if body := other.last(t).body; !strings.Contains(body, `"model":"up-tiny"`) {
			t.Errorf("the fallback saw %s", body)
		}
		if n := g.counted("gateway_llm_fallbacks_total", `from="big"`, `to="tiny"`, `reason="failed"`); n != 1 {
			t.Errorf("%v fallbacks are counted", n)
		}
		eventually(t, time.Second, "the access log tells", func() bool {
			raw, _ := os.ReadFile(g.accessLog)
			return strings.Contains(string(raw), `"fallback_from":"big"`) && strings.Contains(string(raw), `"attempts":3`) &&
				strings.Contains(string(raw), `"instance":"`+other.dial()+`"`) && strings.Contains(string(raw), `"model":"tiny"`)
		})
	})
	t.Run("without a fallback the last answer stands as it is", func(t *testing.T) {
		status, text, header := g.ask("POST", chat, keyOf("steady"), `{"model":"alone"}`)
		if status != 500 || text != "{}" || header.Get("X-Engine") != "refused" {
			t.Errorf("%d %q %v", status, text, header)
		}
	})
	t.Run("an error of the client is nobody's fault", func(t *testing.T) {
		one.refuses(400, `{"error":"bad tool"}`)
		two.refuses(400, `{"error":"bad tool"}`)
		seen := one.count() + two.count()
		status, text, _ := g.ask("POST", chat, keyOf("steady"), `{"model":"big"}`)
		if status != 400 || text != `{"error":"bad tool"}` || one.count()+two.count() != seen+1 {
			t.Errorf("%d %q after %d requests", status, text, one.count()+two.count()-seen)
		}
	})
	t.Run("a stream that breaks off is not begun again", func(t *testing.T) {
		one.answers(nil)
		two.answers(nil)
		seen := one.count() + two.count() + other.count()
		res := g.send("POST", chat, keyOf("steady"), `{"model":"big","stream":true,"case":"cut"}`)
		raw, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil || string(raw) != sseHello || one.count()+two.count()+other.count() != seen+1 {
			t.Errorf("%q %v", raw, err)
		}
	})
	t.Run("an error message that breaks off is nobody's answer", func(t *testing.T) {
		cut := func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(503)
			_, _ = io.WriteString(w, "half an err")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		one.answers(cut)
		two.answers(cut)
		if status, text, _ := g.ask("POST", chat, keyOf("steady"), `{"model":"big","stream":true}`); status != 200 || text != sseHello+sseDone {
			t.Errorf("%d %q", status, text)
		}
	})
}

func TestAPromptThatIsTooLongGoesToTheFallbackAtOnce(t *testing.T) {
	g, one, two, other := twin(t, "wordy", nil)
	for _, message := range []string{
		`{"error":{"message":"This model's maximum context length is 8192 tokens. However, you requested 9100 tokens","code":"context_length_exceeded"}}`,
		`{"error":{"code":400,"type":"exceed_context_size_error","message":"request (9412 tokens) exceeds the available context size (8192 tokens)"}}`,
		`{"error":"the input length exceeds the context length"}`,
	} {
		one.refuses(400, message)
		two.refuses(400, message)
		seen, helped := one.count()+two.count(), other.count()
		status, text, _ := g.ask("POST", chat, keyOf("wordy"), `{"model":"big","stream":true}`)
		if status != 200 || text != sseHello+sseDone || one.count()+two.count() != seen+1 || other.count() != helped+1 {
			t.Errorf("%s: %d %q", message, status, text)
		}
		other.refuses(400, message)
		if status, text, _ := g.ask("POST", chat, keyOf("wordy"), `{"model":"big"}`); status != 400 || text != message {
			t.Errorf("where the fallback cannot either: %d %q", status, text)
		}
		other.answers(nil)
	}
	if n := g.counted("gateway_llm_fallbacks_total", `from="big"`, `reason="context"`); n != 6 {
		t.Errorf("%v fallbacks are counted", n)
	}
	long := `{"error":"` + strings.Repeat("x", 2*maxHeld) + `"}`
	one.refuses(400, long)
	two.refuses(400, long)
	if status, text, _ := g.ask("POST", chat, keyOf("wordy"), `{"model":"big"}`); status != 400 || text != long {
		t.Errorf("a long answer must pass whole: %d, %d of %d bytes", status, len(text), len(long))
	}
}

func TestAFallbackThatTheConsumerMayNotUseIsNotTaken(t *testing.T) {
	g, one, two, other := twin(t, "narrow-minded", map[string]any{"models": []string{"big"}})
	one.refuses(503, `{"error":"full"}`)
	two.refuses(503, `{"error":"full"}`)
	if status, text, _ := g.ask("POST", chat, keyOf("narrow-minded"), `{"model":"big"}`); status != 503 || text != `{"error":"full"}` || other.count() != 0 {
		t.Errorf("%d %q, the fallback saw %d requests", status, text, other.count())
	}
}

func TestAnInstanceThatIsGoneIsLeftAloneUntilItIsBack(t *testing.T) {
	g, one, two, _ := twin(t, "patient", nil)
	gone := two.dial()
	eventually(t, 2*time.Second, "the first checks are over", func() bool { return one.checks.Load() > 0 && two.checks.Load() > 0 })
	two.Listener.Close()
	two.CloseClientConnections()
	for range 4 {
		if status, text, _ := g.ask("POST", chat, keyOf("patient"), `{"model":"alone"}`); status != 200 {
			t.Errorf("%d %s", status, text)
		}
	}
	if n := g.counted("gateway_llm_retries_total", `model="alone"`, `reason="unreachable"`); n != 1 || one.count() != 4 {
		t.Errorf("%v retries; the other one had %d requests", n, one.count())
	}
	if n := g.metric("gateway_engine_healthy", `engine="twin"`, `instance="`+gone+`"`); n != 0 {
		t.Errorf("healthy is %v", n)
	}
	if n := g.metric("gateway_engine_healthy", `engine="twin"`, `instance="`+one.dial()+`"`); n != 1 {
		t.Errorf("the other one's is %v", n)
	}
}

// A request that ends an engine must not end all of them.
func TestARequestThatBreaksAnEngineGoesToOneOther(t *testing.T) {
	g, one, two, other := twin(t, "poison", nil)
	crash := func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
	one.answers(crash)
	two.answers(crash)
	for _, model := range []string{"big", "alone"} {
		before := one.count() + two.count()
		status, text, _ := g.ask("POST", chat, keyOf("poison"), `{"model":"`+model+`"}`)
		if code, _ := errorOf(t, text); status != 502 || code != "engine_unreachable" || one.count()+two.count() != before+2 || other.count() != 0 {
			t.Errorf("%s: %d %s; the instances saw %d requests, the fallback %d", model, status, text, one.count()+two.count()-before, other.count())
		}
	}
	if n := g.counted("gateway_llm_retries_total", `reason="broken"`); n != 2 {
		t.Errorf("%v retries are counted", n)
	}
	if n := g.metric("gateway_engine_healthy", `engine="twin"`); n != 2 {
		t.Errorf("%v instances are healthy", n)
	}
	two.refuses(503, "{}") // whoever comes to this one first moves to the other one, and then falls back
	for range 2 {
		one.answers(crash)
		if status, text, _ := g.ask("POST", chat, keyOf("poison"), `{"model":"big"}`); status != 200 {
			t.Errorf("where another engine was only busy: %d %s", status, text)
		}
	}
}

func TestTheQueueIsBoundedInFrontOfTheEngine(t *testing.T) {
	g, one, two, other := twin(t, "crowd", nil)
	var open []io.Closer
	for _, who := range []string{"crowd", "crowd", "crowd-too"} {
		open = append(open, g.send("POST", chat, keyOf(who), `{"model":"alone","stream":true,"case":"hang-midway"}`).Body)
	}
	if a, b := one.count(), two.count(); a+b != 3 || a == 0 || b == 0 {
		t.Errorf("the instances have %d and %d", a, b)
	}
	for _, at := range []*engine{one, two} {
		if n := g.metric("gateway_engine_in_flight", `instance="`+at.dial()+`"`); int(n) != at.count() {
			t.Errorf("in flight is %v, want %d", n, at.count())
		}
	}
	for who, want := range map[string]string{"crowd": "engine_share_exceeded", "crowd-too": "engine_overloaded"} {
		status, text, header := g.ask("POST", chat, keyOf(who), `{"model":"alone"}`)
		if code, _ := errorOf(t, text); status != 429 || code != want || header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d %s", who, status, text)
		}
	}
	if status, text, _ := g.ask("POST", chat, keyOf("crowd"), `{"model":"big"}`); status != 200 || other.count() != 1 {
		t.Errorf("where a model has a fallback that answers: %d %s", status, text)
	}
	for _, body := range open {
		body.Close()
	}
	eventually(t, 2*time.Second, "there is room again, for all three", func() bool {
		return g.metric("gateway_engine_in_flight", `engine="twin"`) == 0
	})
	if status, _, _ := g.ask("POST", chat, keyOf("crowd"), `{"model":"alone"}`); status != 200 {
		t.Errorf("%d", status)
	}
}

func TestOneConsumerHasHalfOfAnEngine(t *testing.T) {
	g, one, two, _ := twin(t, "greedy", nil)
	hang := func(who string) io.Closer {
		res := g.send("POST", chat, keyOf(who), `{"model":"alone","stream":true,"case":"hang-midway"}`)
		if res.StatusCode != 200 {
			t.Errorf("%s has no place: %d", who, res.StatusCode)
		}
		return res.Body
	}
	a, b := hang("greedy"), hang("greedy")
	status, text, header := g.ask("POST", chat, keyOf("greedy"), `{"model":"alone"}`)
	if code, _ := errorOf(t, text); status != 429 || code != "engine_share_exceeded" || header.Get("Retry-After") != "1" {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := g.ask("POST", chat, keyOf("greedy-too"), `{"model":"alone"}`); status != 200 {
		t.Errorf("another consumer: %d %s", status, text)
	}
	a.Close()
	b.Close()
	eventually(t, 2*time.Second, "nothing is in flight", func() bool { return g.metric("gateway_engine_in_flight", `engine="twin"`) == 0 })
	// Every way to leave gives the place back: a fallback, a refusal, a broken connection.
	one.refuses(503, "{}")
	two.answers(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	for range 4 {
		_, _, _ = g.ask("POST", chat, keyOf("greedy"), `{"model":"big"}`)
		_, _, _ = g.ask("POST", chat, keyOf("greedy"), `{"model":"alone"}`)
	}
	one.answers(nil)
	two.answers(nil)
	a, b = hang("greedy"), hang("greedy")
	if status, _, _ := g.ask("POST", chat, keyOf("greedy"), `{"model":"alone"}`); status != 429 {
		t.Errorf("the share is used up again: %d", status)
	}
	a.Close()
	b.Close()
}

func TestLimitsOfAModelOverAllConsumers(t *testing.T) {
	g, _, _, other := twin(t, "everybody", nil)
	first := g.send("POST", chat, keyOf("everybody"), `{"model":"busy","stream":true,"case":"hang-midway"}`)
	status, text, _ := g.ask("POST", chat, keyOf("everybody"), `{"model":"busy"}`)
	if code, _ := errorOf(t, text); status != 429 || code != "model_overloaded" {
		t.Errorf("%d %s", status, text)
	}
	first.Body.Close()
	eventually(t, 2*time.Second, "the second request of the minute passes", func() bool {
		status, _, _ := g.ask("POST", chat, keyOf("everybody"), `{"model":"busy"}`)
		return status == 200
	})
	status, text, header := g.ask("POST", chat, keyOf("everybody"), `{"model":"busy"}`)
	if code, _ := errorOf(t, text); status != 429 || code != "model_rate_limit_exceeded" || header.Get("Retry-After") == "" || other.count() != 2 {
		t.Errorf("%d %s after %d requests", status, text, other.count())
	}
}

// A panic of the proxy must not keep a place: after many broken streams there is as
// much room as before.
func TestEveryEndOfAnAnswerGivesItsPlaceBack(t *testing.T) {
	g, one, two, _ := twin(t, "rough", nil)
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			res := g.send("POST", chat, keyOf("rough"), fmt.Sprintf(`{"model":"alone","stream":true,"case":%q}`, []string{"cut", "no-done", "x"}[i%3]))
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		})
	}
	all.Wait()
	eventually(t, 2*time.Second, "nothing is in flight", func() bool {
		return g.metric("gateway_engine_in_flight", `engine="twin"`) == 0 && g.metric("gateway_llm_requests_in_flight", `model="alone"`) == 0
	})
	if one.count() == 0 || two.count() == 0 {
		t.Errorf("%d and %d requests", one.count(), two.count())
	}
}
