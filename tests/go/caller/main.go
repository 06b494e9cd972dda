// Command caller makes calls to a sessiond by grpc-go, as the JSON list in its first argument says, and prints one JSON
// object a line with the status of each. It is the counterpart of tests/python/caller.py.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// order is one channel and what is called through it.
type order struct {
	Target    string `json:"target"`
	Authority string `json:"authority"`
	Method    string `json:"method"`
	Times     int    `json:"times"`
	Metadata  int    `json:"metadata_bytes"`
}

// answer is how the calls of an order ended: the status and the reason of the last one.
type answer struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Reason  string `json:"reason"`
}

func main() {
	var orders []order
	if err := json.Unmarshal([]byte(os.Args[1]), &orders); err != nil {
		panic(err)
	}
	for _, order := range orders {
		line, err := json.Marshal(call(order))
		if err != nil {
			panic(err)
		}
		fmt.Println(string(line))
	}
}

func call(order order) answer {
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if order.Authority != "" {
		options = append(options, grpc.WithAuthority(order.Authority))
	}
	channel, err := grpc.NewClient(order.Target, options...)
	if err != nil {
		panic(err)
	}
	defer channel.Close()
	var last answer
	for range order.Times {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if order.Metadata > 0 {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-filler", strings.Repeat("v", order.Metadata))
		}
		var trailer metadata.MD
		// An empty message is a valid request of every method called here, and its answer's fields stay unknown.
		err := channel.Invoke(ctx, order.Method, &emptypb.Empty{}, &emptypb.Empty{}, grpc.WaitForReady(true), grpc.Trailer(&trailer))
		cancel()
		last = answer{status.Code(err).String(), status.Convert(err).Message(), strings.Join(trailer.Get("sessiond-reason"), ",")}
		if err != nil {
			break
		}
	}
	return last
}
