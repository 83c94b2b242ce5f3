// A gRPC server and client for tests/lanes/grpc.py: grpc-go at both ends of headwater.
//
//	lane-grpc serve -listen ADDRESS -name NAME [-cert FILE -key FILE]    until SIGTERM, which stops it gracefully
//	lane-grpc ask   -target ADDRESS [-ca FILE -server-name NAME] CASE... what came of each case, as a line of JSON
//	lane-grpc load  -target ADDRESS [-ca FILE -server-name NAME] -workers N
//	                "begun" after the first calls; calls until its input ends; then what came of them, as JSON
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// maxMessage is more than grpc-go takes by default.
const maxMessage = 64 << 20

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("serve, ask or load?")
	}
	var err error
	switch command, arguments := os.Args[1], os.Args[2:]; command {
	case "serve":
		err = serve(arguments)
	case "ask":
		err = ask(arguments)
	case "load":
		err = load(arguments)
	default:
		err = fmt.Errorf("no such command: %s", command)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	listen := flags.String("listen", "", "address")
	name := flags.String("name", "", "what the server calls itself")
	cert := flags.String("cert", "", "certificate; none: in the clear")
	key := flags.String("key", "", "its key")
	flags.Parse(arguments)

	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage)}
	if *cert != "" {
		tls, err := credentials.NewServerTLSFromFile(*cert, *key)
		if err != nil {
			return err
		}
		options = append(options, grpc.Creds(tls))
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := grpc.NewServer(options...)
	server.RegisterService(&description, &Peer{name: *name})
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	stopped := make(chan struct{})
	go func() {
		<-terminated
		server.GracefulStop()
		close(stopped)
	}()
	if err := server.Serve(listener); err != nil {
		return err
	}
	<-stopped
	return nil
}
