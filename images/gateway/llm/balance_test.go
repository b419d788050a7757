package llm

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func engineOf(t *testing.T, name string, most int, addresses ...string) *Engine {
	t.Helper()
	e := &Engine{Instances: addresses, MaxInFlight: most}
	if err := e.provision(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // what instances have to do outlives engines
		balance.Lock()
		defer balance.Unlock()
		for _, member := range e.members {
			delete(balance.instances, [2]string{name, member.address})
		}
	})
	return e
}

func TestTheInstanceWithTheLeastToDoIsNext(t *testing.T) {
	e := engineOf(t, "balanced", 7, "a:1", "b:1", "c:1")
	var taken []*instance
	load := map[string]int{}
	for range 6 {
		at := e.take()
		taken = append(taken, at)
		load[at.address]++
	}
	if load["a:1"] != 2 || load["b:1"] != 2 || load["c:1"] != 2 {
		t.Errorf("six requests are shared out as %v", load)
	}
	for _, at := range taken {
		if at.address == "b:1" {
			at.release()
		}
	}
	first, second := e.take(), e.take()
	if first.address != "b:1" || second.address != "b:1" {
		t.Errorf("with 2, 0 and 2 to do %s and %s are next", first.address, second.address)
	}
	second.release()
	e.members[1].setDown(true)
	if at := e.take(); at == nil || at.address == "b:1" {
		t.Errorf("one that is down is next: %+v", at)
	}
	e.members[0].setDown(true)
	e.members[2].setDown(true)
	if at := e.take(); at == nil || at.address != "b:1" {
		t.Errorf("when all are down the one with the least to do is tried: %+v", at)
	}
	if at := e.take(); at != nil {
		t.Errorf("an eighth request goes to %s", at.address)
	}
	again := engineOf(t, "balanced", 8, "b:1", "d:1")
	if at := again.take(); at.address != "d:1" || again.members[0].inFlight != 2 {
		t.Errorf("a changed configuration forgot what an instance has to do: %s", at.address)
	}
}

func TestAMoveTakesNoSecondPlace(t *testing.T) {
	e := engineOf(t, "moving", 1, "a:1", "b:1")
	from := e.take()
	to := e.move(from, []*instance{from})
	if to == nil || to == from || from.inFlight != 0 || to.inFlight != 1 || e.take() != nil {
		t.Errorf("from %+v to %+v", from, to)
	}
	if e.move(to, []*instance{from, to}) != nil || to.inFlight != 1 {
		t.Error("there is nobody else, and the place stays")
	}
}

// The check of instances, in a time of its own: two failures in a row take an instance
// out, one success brings it back.
func TestHealthChecksTakeAnInstanceOutAndBack(t *testing.T) {
	var well atomic.Bool
	var asked atomic.Int32
	well.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/api/version" || !well.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	e := engineOf(t, "checked", 0, server.Listener.Addr().String(), "127.0.0.1:1")
	w := &watch{of: e.members[0], check: func(ctx context.Context) error { return e.check(ctx, e.Instances[0]) }}
	isDown := func() bool {
		balance.Lock()
		defer balance.Unlock()
		return w.of.down
	}
	failures := 0
	for i, step := range []struct{ well, down bool }{{true, false}, {false, false}, {false, true}, {false, true}, {true, false}, {false, false}, {true, false}, {false, false}} {
		well.Store(step.well)
		w.once(t.Context(), &failures)
		if isDown() != step.down {
			t.Errorf("step %d: down is %v", i, isDown())
		}
	}
	if asked.Load() != 8 {
		t.Errorf("asked %d times", asked.Load())
	}
	single := engineOf(t, "single", 0, "127.0.0.1:1")
	if len(single.watchKeys()) != 0 || len(e.watchKeys()) != 2 {
		t.Error("only where there is a choice is there a check")
	}
}

func TestChecksRunEveryFewSecondsUntilTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engineOf(t, "watched", 0, "a:1", "b:1")
		w := newWatch(e.members[0], func(context.Context) error { return http.ErrServerClosed })
		down := func() bool {
			balance.Lock()
			defer balance.Unlock()
			return e.members[0].down
		}
		time.Sleep(checkInterval - time.Millisecond)
		if synctest.Wait(); down() {
			t.Error("one failure is no proof")
		}
		time.Sleep(2 * time.Millisecond)
		if synctest.Wait(); !down() {
			t.Error("two failures are")
		}
		if err := w.Destruct(); err != nil || down() {
			t.Error("what nobody checks is taken for well")
		}
	})
}

func TestACheckIsSharedAndEndsWithItsLastUser(t *testing.T) {
	e := engineOf(t, "shared", 0, "127.0.0.1:1", "127.0.0.1:2")
	users := func() int {
		n, _ := watches.References(e.watchKeys()[0])
		return n
	}
	for want := 1; want <= 2; want++ { // two handlers, or two configurations
		if err := e.watchInstances(); err != nil || users() != want {
			t.Fatalf("%d users, %v", users(), err)
		}
	}
	for want := 1; want >= 0; want-- {
		if err := e.unwatchInstances(); err != nil || users() != want {
			t.Errorf("%d users, %v", users(), err)
		}
	}
}

func TestOfManyInstancesTwoAreAskedAndThenTheFallback(t *testing.T) {
	all := []*engine{newEngine(t), newEngine(t), newEngine(t)}
	var addresses []string
	for _, e := range all {
		e.refuses(503, `{"error":"full"}`)
		addresses = append(addresses, e.dial())
	}
	engines := object{"three": object{"instances": addresses}}
	g := startCatalog(t, engines, []object{{"id": "m", "engine": "three"}}, spec("modest", nil))
	status, _, header := g.ask("POST", chat, keyOf("modest"), `{"model":"m"}`)
	if n := all[0].count() + all[1].count() + all[2].count(); status != 503 || n != 2 {
		t.Errorf("%d after %d requests", status, n)
	}
	if strings.Contains(header.Get("Server"), "Caddy") {
		t.Error("what the proxy took out of the answer's header is back")
	}
}
