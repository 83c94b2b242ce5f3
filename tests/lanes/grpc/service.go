package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Message is the only message: bytes that each method reads in its own way.
type Message = wrapperspb.BytesValue

// piece is what a body is made of that is only to be long.
var piece = wrapperspb.Bytes(make([]byte, 64<<10))

func message(text string) *Message { return wrapperspb.Bytes([]byte(text)) }

// Peer is the service. No generated code: the description below is all that grpc-go asks for.
type Peer struct {
	name  string
	ended endings
}

const service = "lane.Peer"

var description = grpc.ServiceDesc{
	ServiceName: service,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		unary("Echo", (*Peer).echo),
		unary("Metadata", (*Peer).metadata),
		unary("Fail", (*Peer).fail),
		unary("Ended", (*Peer).waitForEnd),
	},
	Streams: []grpc.StreamDesc{
		{StreamName: "Count", Handler: answering((*Peer).count), ServerStreams: true},
		{StreamName: "Sum", Handler: conversing((*Peer).sum), ClientStreams: true},
		{StreamName: "Chat", Handler: conversing((*Peer).chat), ServerStreams: true, ClientStreams: true},
		{StreamName: "Enough", Handler: conversing((*Peer).enough), ServerStreams: true, ClientStreams: true},
		{StreamName: "Flood", Handler: answering((*Peer).flood), ServerStreams: true},
		{StreamName: "Hang", Handler: answering((*Peer).hang), ServerStreams: true},
	},
}

// echo answers with the message it got, its length in the trailers and the server's name in the headers.
func (p *Peer) echo(ctx context.Context, in *Message) (*Message, error) {
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-peer", p.name)); err != nil {
		return nil, err
	}
	err := grpc.SetTrailer(ctx, metadata.Pairs("x-length", strconv.Itoa(len(in.Value)), "x-sum-bin", "\x00\xff"))
	return in, err
}

// metadata tells, as JSON, what metadata the call came with.
func (p *Peer) metadata(ctx context.Context, _ *Message) (*Message, error) {
	came, _ := metadata.FromIncomingContext(ctx)
	text, err := json.Marshal(came)
	return wrapperspb.Bytes(text), err
}

// fail ends with the status that the message names, with metadata, and without a message: "trailers only".
func (p *Peer) fail(ctx context.Context, in *Message) (*Message, error) {
	code, err := strconv.Atoi(string(in.Value))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("x-why", "asked for")); err != nil {
		return nil, err
	}
	return nil, status.Error(codes.Code(code), "as asked: 100 % of über")
}

// count sends so many messages; a number below zero: so many, and then a failure.
func (p *Peer) count(in *Message, stream grpc.ServerStream) error {
	last, err := strconv.Atoi(string(in.Value))
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	for number := 1; number <= max(last, -last); number++ {
		if err := stream.SendMsg(message(strconv.Itoa(number))); err != nil {
			return err
		}
	}
	stream.SetTrailer(metadata.Pairs("x-count", strconv.Itoa(max(last, -last))))
	if last < 0 {
		return status.Error(codes.DataLoss, "after the last message")
	}
	return nil
}

// flood sends so many messages of 64 KiB.
func (p *Peer) flood(in *Message, stream grpc.ServerStream) error {
	left, err := strconv.Atoi(string(in.Value))
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	for ; left > 0; left-- {
		if err := stream.SendMsg(piece); err != nil {
			return err
		}
	}
	return nil
}

// sum answers how many messages and bytes it got.
func (p *Peer) sum(stream grpc.ServerStream) error {
	messages, length := 0, 0
	for {
		var in Message
		err := stream.RecvMsg(&in)
		if err == io.EOF {
			return stream.SendMsg(message(fmt.Sprintf("%d messages, %d bytes", messages, length)))
		}
		if err != nil {
			return err
		}
		messages, length = messages+1, length+len(in.Value)
	}
}

// chat answers each message before it reads the next.
func (p *Peer) chat(stream grpc.ServerStream) error {
	for {
		var in Message
		err := stream.RecvMsg(&in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&in); err != nil {
			return err
		}
	}
}

// enough reads one message and fails, whatever else the client has to say.
func (p *Peer) enough(stream grpc.ServerStream) error {
	var in Message
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	return status.Error(codes.ResourceExhausted, "one is enough")
}

// hang sends a message to say that it has begun, and goes on until the call is taken from it. The message is the call's
// name, by which Ended asks for it.
func (p *Peer) hang(in *Message, stream grpc.ServerStream) error {
	ctx := stream.Context()
	if err := stream.SendMsg(message("begun")); err != nil {
		return err
	}
	deadline, limited := ctx.Deadline()
	left := time.Until(deadline)
	<-ctx.Done()
	ended := fmt.Sprint(ctx.Err())
	if limited {
		ended += fmt.Sprintf(", of %v", left.Round(time.Second))
	}
	p.ended.note(string(in.Value), ended)
	return ctx.Err()
}

// waitForEnd waits until the call of this name has ended, and tells how.
func (p *Peer) waitForEnd(ctx context.Context, in *Message) (*Message, error) {
	select {
	case how := <-p.ended.of(string(in.Value)):
		return message(how), nil
	case <-ctx.Done():
		return nil, status.Error(codes.DeadlineExceeded, "it goes on")
	}
}

// endings are the ends of calls, by name; each is told once.
type endings struct {
	mutex  sync.Mutex
	byName map[string]chan string
}

func (e *endings) of(name string) chan string {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.byName == nil {
		e.byName = make(map[string]chan string)
	}
	if e.byName[name] == nil {
		e.byName[name] = make(chan string, 1)
	}
	return e.byName[name]
}

func (e *endings) note(name, how string) { e.of(name) <- how }

func unary(name string, method func(*Peer, context.Context, *Message) (*Message, error)) grpc.MethodDesc {
	handler := func(peer any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var in Message
		if err := decode(&in); err != nil {
			return nil, err
		}
		return method(peer.(*Peer), ctx, &in)
	}
	return grpc.MethodDesc{MethodName: name, Handler: handler}
}

// answering is for methods that take one message and answer with many.
func answering(method func(*Peer, *Message, grpc.ServerStream) error) grpc.StreamHandler {
	return func(peer any, stream grpc.ServerStream) error {
		var in Message
		if err := stream.RecvMsg(&in); err != nil {
			return err
		}
		return method(peer.(*Peer), &in, stream)
	}
}

// conversing is for methods that take as many messages as come.
func conversing(method func(*Peer, grpc.ServerStream) error) grpc.StreamHandler {
	return func(peer any, stream grpc.ServerStream) error { return method(peer.(*Peer), stream) }
}
