package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Tally is what came of a load.
type Tally struct {
	// Calls that succeeded, by the server that answered; streams count under "streams".
	Answered map[string]int `json:"answered"`
	Failed   []string       `json:"failed"`
	mutex    sync.Mutex
}

// warmUp is how many calls a load has made before it says that it has begun.
const warmUp = 500

func (t *Tally) add(server string, err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if err != nil {
		t.Failed = append(t.Failed, told(err))
		return
	}
	t.Answered[server]++
	total := 0
	for _, calls := range t.Answered {
		total += calls
	}
	if total == warmUp {
		fmt.Println("begun")
	}
}

// load makes calls until its input ends, and finishes those it has begun. Every other worker has streams.
func load(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	workers := flags.Int("workers", 32, "calls at once")
	client, err := connect(flags, arguments)
	if err != nil {
		return err
	}
	defer client.Close()
	over := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	tally := &Tally{Answered: map[string]int{}, Failed: []string{}}
	var all sync.WaitGroup
	for number := range *workers {
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				select {
				case <-over:
					return
				default:
				}
				if number%2 == 0 {
					tally.add(client.unaryCall())
				} else {
					tally.add("streams", client.streamCall())
				}
			}
		}()
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(tally)
}

func (c Client) unaryCall() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var header metadata.MD
	text, err := c.call(ctx, "Echo", message("hello"), grpc.Header(&header))
	if err == nil && text != "hello" {
		err = fmt.Errorf("answered %q", text)
	}
	return one(header, "x-peer"), err
}

func (c Client) streamCall() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := c.openWith(ctx, "Count", "20")
	if err != nil {
		return err
	}
	texts, err := receive(stream)
	if err == nil && len(texts) != 20 {
		err = fmt.Errorf("%d messages", len(texts))
	}
	return err
}
