// Command engine is the one fake engine of the tests and benchmarks, and the client that loads it. See README.md.
package main

import (
	"fmt"
	"os"
)

var commands = map[string]func(arguments []string) error{
	"serve": serve,
	"null":  null,
	"load":  load,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: engine serve|null|load [flags]; -help after one of them tells more")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}
