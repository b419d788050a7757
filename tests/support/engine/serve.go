package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// serve runs the engine until it is told to end. The first line it prints is JSON: where it listens.
func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address of the engine")
	control := flags.String("control", "127.0.0.1:0", "address of the control API")
	models := flags.String("models", "qwen3:0.6b,all-minilm", "models it has, separated by commas")
	scenario := flags.String("scenario", "{}", "JSON of the usual scenario, or its members that differ")
	keep := flags.Int("keep", 20000, "requests that the record holds; 0: none")
	answerAll := flags.Bool("answer-all", false, "be a web application: 200 at any address, sockets that echo")
	key := flags.String("key", "", "the key that it wants to be shown")
	certificate := flags.String("tls-certificate", "", "PEM file; with -tls-key: HTTPS")
	private := flags.String("tls-key", "", "PEM file")
	stdin := flags.Bool("until-eof", false, "end with the standard input: no orphan is left of who started it")
	_ = flags.Parse(arguments)

	initial := usual
	if err := initial.read(strings.NewReader(*scenario)); err != nil {
		return fmt.Errorf("-scenario: %w", err)
	}
	e := &engine{
		models: strings.Split(*models, ","), answerAll: *answerAll, key: *key,
		play: newPlay(initial), record: &record{limit: *keep},
	}
	outer, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	inner, err := net.Listen("tcp", *control)
	if err != nil {
		return err
	}
	told := object{"address": outer.Addr().String(), "control": inner.Addr().String(), "pid": os.Getpid()}
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *private)
		if err != nil {
			return err
		}
		outer = tls.NewListener(outer, &tls.Config{Certificates: []tls.Certificate{pair}})
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *stdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	first, _ := json.Marshal(told)
	fmt.Println(string(first))

	main := e.server()
	go func() { _ = (&http.Server{Handler: e.controls(), ReadHeaderTimeout: 10 * time.Second}).Serve(inner) }()
	go func() {
		<-ctx.Done()
		_ = main.Close()
	}()
	if err := main.Serve(&tapped{Listener: outer, record: e.record}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// server takes HTTP/1 and HTTP/2 without TLS.
func (e *engine) server() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: e, Protocols: protocols, ConnContext: withTap, MaxHeaderBytes: keptHead,
		ReadHeaderTimeout: time.Minute, DisableGeneralOptionsHandler: true,
	}
}

// controls is the API for tests, at an address of its own.
func (e *engine) controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /requests", func(w http.ResponseWriter, r *http.Request) {
		since, _ := strconv.Atoi(r.FormValue("since"))
		reply(w, e.record.since(since))
	})
	mux.HandleFunc("DELETE /requests", func(w http.ResponseWriter, _ *http.Request) {
		e.record.clear()
		reply(w, object{})
	})
	mux.HandleFunc("GET /scenario", func(w http.ResponseWriter, r *http.Request) {
		reply(w, e.play.get(r.FormValue("model")))
	})
	// Members that are not named have their initial values, not the ones of the scenario before.
	mux.HandleFunc("PUT /scenario", func(w http.ResponseWriter, r *http.Request) {
		s := e.play.initial
		if err := s.read(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		e.play.set(r.FormValue("model"), s)
		reply(w, s)
	})
	mux.HandleFunc("POST /next", func(w http.ResponseWriter, r *http.Request) {
		var orders []json.RawMessage
		if err := json.NewDecoder(r.Body).Decode(&orders); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		next := make([]Scenario, len(orders))
		for i, order := range orders {
			next[i] = e.play.initial
			if err := next[i].read(strings.NewReader(string(order))); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		e.play.order(next)
		reply(w, object{})
	})
	mux.HandleFunc("POST /freeze", func(w http.ResponseWriter, r *http.Request) {
		var order struct {
			After float64 `json:"after_ms"`
			Last  float64 `json:"for_ms"`
		}
		if err := json.NewDecoder(r.Body).Decode(&order); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		e.gate.freeze(milliseconds(order.After), milliseconds(order.Last))
		reply(w, object{})
	})
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		e.record.clear()
		e.play.reset()
		e.gate.freeze(0, 0)
		e.most.Store(e.inFlight.Load())
		reply(w, object{})
	})
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, object{
			"in_flight": e.inFlight.Load(), "most_in_flight": e.most.Load(), "requests": e.record.total(), "now": stamp(),
		})
	})
	return mux
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
