package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// null answers every request with one fixed stream in large writes and looks at nothing else: what a client
// reaches here is what the client can do.
func null(arguments []string) error {
	flags := flag.NewFlagSet("null", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	tokens := flags.Int("tokens", 1000, "tokens in each answer, one a chunk")
	stdin := flags.Bool("until-eof", false, "end with the standard input")
	_ = flags.Parse(arguments)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	if *stdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	first, _ := json.Marshal(object{"address": listener.Addr().String(), "control": "", "pid": os.Getpid()})
	fmt.Println(string(first))
	answer := nullAnswer(*tokens)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go nullServe(conn, answer)
	}
}

func nullAnswer(tokens int) []byte {
	s := usual
	s.Tokens = tokens
	plan := s.write(&ask{}, 1)
	v := &completions{events: events{"\n", false}, chat: true, id: "null", model: "null", role: true}
	var stream []byte
	for k := range plan.parts {
		stream = v.part(stream, k, plan.parts[k], plan.say(nil, k, k))
	}
	stream = v.end(stream, telling{plan: plan}, true)
	var answer bytes.Buffer
	answer.WriteString("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
	for len(stream) > 0 {
		n := min(32<<10, len(stream))
		fmt.Fprintf(&answer, "%x\r\n%s\r\n", n, stream[:n])
		stream = stream[n:]
	}
	answer.WriteString("0\r\n\r\n")
	return answer.Bytes()
}

func nullServe(conn net.Conn, answer []byte) {
	defer conn.Close()
	from := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}
