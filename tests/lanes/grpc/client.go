package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// patience is how long anything may take that isn't meant to hang.
const patience = 60 * time.Second

// Client asks over one connection.
type Client struct{ *grpc.ClientConn }

// connect takes the flags that ask and load have in common.
func connect(flags *flag.FlagSet, arguments []string) (Client, error) {
	target := flags.String("target", "", "address")
	ca := flags.String("ca", "", "the only authority to believe; none: in the clear")
	serverName := flags.String("server-name", "", "what its certificate must be valid for")
	flags.Parse(arguments)
	tls := insecure.NewCredentials()
	if *ca != "" {
		var err error
		if tls, err = credentials.NewClientTLSFromFile(*ca, *serverName); err != nil {
			return Client{}, err
		}
	}
	connection, err := grpc.NewClient("passthrough:///"+*target,
		grpc.WithTransportCredentials(tls),
		grpc.WithAuthority("grpc.example.com"),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	return Client{connection}, err
}

// cases are what can be asked: each returns what came, as JSON can show it.
var cases = map[string]func(Client, context.Context) any{
	"unary":         Client.unary,
	"large":         Client.large,
	"server-stream": Client.serverStream,
	"client-stream": Client.clientStream,
	"bidi":          Client.bidi,
	"status":        Client.status,
	"late-status":   Client.lateStatus,
	"early-status":  Client.earlyStatus,
	"metadata":      Client.metadata,
	"deadline":      Client.deadline,
	"cancel":        Client.cancel,
	"vanish":        Client.vanish,
	"concurrent":    Client.concurrent,
	"16-mib-down":   func(c Client, ctx context.Context) any { return c.down(ctx, 16<<20) },
	"16-mib-up":     func(c Client, ctx context.Context) any { return c.up(ctx, 16<<20) },
	"gib-down":      func(c Client, ctx context.Context) any { return c.down(ctx, 1<<30) },
	"gib-up":        func(c Client, ctx context.Context) any { return c.up(ctx, 1<<30) },
}

func ask(arguments []string) error {
	flags := flag.NewFlagSet("ask", flag.ExitOnError)
	client, err := connect(flags, arguments)
	if err != nil {
		return err
	}
	defer client.Close()
	for _, name := range flags.Args() {
		run, known := cases[name]
		if !known {
			return fmt.Errorf("no such case: %s", name)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		came := run(client, ctx)
		cancel()
		if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"case": name, "came": came}); err != nil {
			return err
		}
	}
	return nil
}

func (c Client) call(ctx context.Context, method string, in *Message, options ...grpc.CallOption) (string, error) {
	var out Message
	err := c.Invoke(ctx, "/"+service+"/"+method, in, &out, options...)
	return string(out.Value), err
}

func (c Client) open(ctx context.Context, method string) (grpc.ClientStream, error) {
	return c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+service+"/"+method)
}

// openWith opens a stream with the only message that goes up.
func (c Client) openWith(ctx context.Context, method, text string) (grpc.ClientStream, error) {
	stream, err := c.open(ctx, method)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(message(text)); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}

// receive reads a stream to its end: the messages, and the status.
func receive(stream grpc.ClientStream) ([]string, error) {
	texts := []string{}
	for {
		var out Message
		err := stream.RecvMsg(&out)
		if err == io.EOF {
			return texts, nil
		}
		if err != nil {
			return texts, err
		}
		texts = append(texts, string(out.Value))
	}
}

// told is a status as a lane shows it.
func told(err error) string {
	if err == nil {
		return "OK"
	}
	status := status.Convert(err)
	return fmt.Sprintf("%v: %s", status.Code(), status.Message())
}

func one(md metadata.MD, name string) string { return fmt.Sprint(md.Get(name)) }

func (c Client) unary(ctx context.Context) any {
	var header, trailer metadata.MD
	text, err := c.call(ctx, "Echo", message("hello"), grpc.Header(&header), grpc.Trailer(&trailer))
	return []string{text, told(err), one(header, "x-peer"), one(trailer, "x-length"), fmt.Sprintf("%q", trailer.Get("x-sum-bin"))}
}

// large is 16 MiB there and back.
func (c Client) large(ctx context.Context) any {
	sent := bytes.Repeat([]byte("headwater lanes\n"), 1<<20)
	text, err := c.call(ctx, "Echo", message(string(sent)))
	return []any{len(text), text == string(sent), told(err)}
}

func (c Client) serverStream(ctx context.Context) any {
	stream, err := c.openWith(ctx, "Count", "1000")
	if err != nil {
		return told(err)
	}
	texts, err := receive(stream)
	inOrder := true
	for index, text := range texts {
		inOrder = inOrder && text == strconv.Itoa(index+1)
	}
	return []any{len(texts), inOrder, told(err), one(stream.Trailer(), "x-count")}
}

// clientStream is 1,000 messages of 1,000 bytes up.
func (c Client) clientStream(ctx context.Context) any {
	stream, err := c.open(ctx, "Sum")
	for range 1000 {
		if err == nil {
			err = stream.SendMsg(wrapperspb.Bytes(piece.Value[:1000]))
		}
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil {
		return told(err)
	}
	texts, err := receive(stream)
	return []any{texts, told(err)}
}

// bidi says one thing at a time: none passes if anything waits for more.
func (c Client) bidi(ctx context.Context) any {
	stream, err := c.open(ctx, "Chat")
	answered := 0
	for number := 0; err == nil && number < 200; number++ {
		var out Message
		text := strconv.Itoa(number)
		if err = stream.SendMsg(message(text)); err == nil {
			err = stream.RecvMsg(&out)
		}
		if string(out.Value) == text {
			answered++
		}
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil {
		return []any{answered, told(err)}
	}
	rest, err := receive(stream)
	return []any{answered, len(rest), told(err)}
}

// status asks for each failure there is; all in trailers alone.
func (c Client) status(ctx context.Context) any {
	came := []string{}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		var header, trailer metadata.MD
		_, err := c.call(ctx, "Fail", message(strconv.Itoa(int(code))), grpc.Header(&header), grpc.Trailer(&trailer))
		came = append(came, fmt.Sprintf("%s, %s", told(err), one(trailer, "x-why")))
	}
	return came
}

func (c Client) lateStatus(ctx context.Context) any {
	stream, err := c.openWith(ctx, "Count", "-3")
	if err != nil {
		return told(err)
	}
	texts, err := receive(stream)
	return []any{texts, told(err), one(stream.Trailer(), "x-count")}
}

// earlyStatus goes on sending until it is told that nobody wants more.
func (c Client) earlyStatus(ctx context.Context) any {
	stream, err := c.open(ctx, "Enough")
	if err != nil {
		return told(err)
	}
	for err == nil {
		err = stream.SendMsg(piece)
	}
	texts, status := receive(stream)
	return []any{fmt.Sprint(err), len(texts), told(status)}
}

func (c Client) metadata(ctx context.Context) any {
	forged := []string{}
	for _, name := range []string{"x-forwarded-for", "x-real-ip", "x_forwarded_for", "forwarded", "cf-connecting-ip", "x-forwarded-host"} {
		forged = append(forged, name, "6.6.6.6")
	}
	honest := []string{"x-many", "one", "x-many", "two", "x-bytes-bin", "\x00\x01\xfe\xff", "authorization", "Bearer t"}
	ctx = metadata.AppendToOutgoingContext(ctx, append(forged, honest...)...)
	text, err := c.call(ctx, "Metadata", message(""))
	if err != nil {
		return told(err)
	}
	return json.RawMessage(text)
}

// ended asks how a hanging call ended at the server, and how long ago it was left.
func (c Client) ended(ctx context.Context, name string, since time.Time) []any {
	how, err := c.call(ctx, "Ended", message(name))
	if err != nil {
		how = told(err)
	}
	return []any{how, time.Since(since).Milliseconds()}
}

func (c Client) deadline(ctx context.Context) any {
	name := fmt.Sprint("deadline ", time.Now().UnixNano())
	limited, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := c.openWith(limited, "Hang", name)
	if err != nil {
		return told(err)
	}
	texts, err := receive(stream)
	return append([]any{texts, told(err)}, c.ended(ctx, name, time.Now())...)
}

func (c Client) cancel(ctx context.Context) any {
	name := fmt.Sprint("cancel ", time.Now().UnixNano())
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.openWith(limited, "Hang", name)
	var begun Message
	if err == nil {
		err = stream.RecvMsg(&begun)
	}
	if err != nil {
		return told(err)
	}
	cancel()
	return append([]any{string(begun.Value)}, c.ended(ctx, name, time.Now())...)
}

// vanish closes a connection of its own with a call under way.
func (c Client) vanish(ctx context.Context) any {
	name := fmt.Sprint("vanish ", time.Now().UnixNano())
	other, err := connect(flag.NewFlagSet("ask", flag.ExitOnError), os.Args[2:])
	if err != nil {
		return told(err)
	}
	stream, err := other.openWith(ctx, "Hang", name)
	var begun Message
	if err == nil {
		err = stream.RecvMsg(&begun)
	}
	if err != nil {
		return told(err)
	}
	other.Close()
	return append([]any{string(begun.Value)}, c.ended(ctx, name, time.Now())...)
}

// down receives so many bytes, in messages of 64 KiB.
func (c Client) down(ctx context.Context, length int) any {
	stream, err := c.openWith(ctx, "Flood", strconv.Itoa(length/len(piece.Value)))
	came := 0
	for err == nil {
		var out Message
		if err = stream.RecvMsg(&out); err == nil {
			came += len(out.Value)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return []any{came, told(err)}
}

// up sends so many bytes, in messages of 64 KiB.
func (c Client) up(ctx context.Context, length int) any {
	stream, err := c.open(ctx, "Sum")
	for left := length; err == nil && left > 0; left -= len(piece.Value) {
		err = stream.SendMsg(piece)
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil {
		return told(err)
	}
	texts, err := receive(stream)
	return []any{texts, told(err)}
}

// concurrent is 500 calls at once on one connection, which has room for fewer.
func (c Client) concurrent(ctx context.Context) any {
	var all sync.WaitGroup
	statuses := make([]string, 500)
	for index := range statuses {
		all.Add(1)
		go func() {
			defer all.Done()
			text, err := c.call(ctx, "Echo", message(strconv.Itoa(index)))
			if text != strconv.Itoa(index) && err == nil {
				err = fmt.Errorf("%s for %d", text, index)
			}
			statuses[index] = told(err)
		}()
	}
	all.Wait()
	counted := map[string]int{}
	for _, status := range statuses {
		counted[status]++
	}
	return counted
}
