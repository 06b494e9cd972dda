// Reads google.protobuf.Struct messages as Go's protobuf library does, for the differential test in tests/it/readers.rs.
//
// Standard input carries batches: the length of the batch in bytes (four bytes, big-endian), then its messages, each behind
// its own length. Each batch is answered by one batch on standard output: for each message its canonical form, or "!" if
// the library refuses the message. The canonical form is described in tests/it/readers/forms.rs.
package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"log"
	"math"
	"os"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		batch, err := frame(in)
		if err == io.EOF {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		answer := make([]byte, 4, len(batch))
		for len(batch) > 0 {
			length := binary.BigEndian.Uint32(batch)
			message := batch[4 : 4+length]
			batch = batch[4+length:]
			answer = append(answer, 0, 0, 0, 0)
			start := len(answer)
			answer = read(answer, message)
			binary.BigEndian.PutUint32(answer[start-4:], uint32(len(answer)-start))
		}
		binary.BigEndian.PutUint32(answer, uint32(len(answer)-4))
		if _, err := out.Write(answer); err != nil {
			log.Fatal(err)
		}
		if err := out.Flush(); err != nil {
			log.Fatal(err)
		}
	}
}

// frame reads one batch. The error is io.EOF at the end of the input.
func frame(in io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	batch := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(in, batch)
	return batch, err
}

// read appends the canonical form of one message.
func read(to, message []byte) []byte {
	var list structpb.ListValue
	if err := proto.Unmarshal(message, &list); err != nil {
		return append(to, '!')
	}
	return appendList(to, &list)
}

func appendList(to []byte, list *structpb.ListValue) []byte {
	to = append(to, '[')
	for _, item := range list.GetValues() {
		to = appendValue(to, item)
	}
	return append(to, ']')
}

func appendObject(to []byte, object *structpb.Struct) []byte {
	fields := object.GetFields()
	keys := make([]string, 0, len(fields))
	for key := range fields {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	to = append(to, '{')
	for _, key := range keys {
		to = appendValue(appendText(to, key), fields[key])
	}
	return append(to, '}')
}

func appendText(to []byte, text string) []byte {
	to = append(to, 's')
	to = strconv.AppendInt(to, int64(len(text)), 10)
	to = append(to, ':')
	return append(to, text...)
}

func appendValue(to []byte, value *structpb.Value) []byte {
	switch kind := value.GetKind().(type) {
	case *structpb.Value_NullValue:
		to = append(to, 'n')
		return append(strconv.AppendInt(to, int64(kind.NullValue), 10), ';')
	case *structpb.Value_BoolValue:
		if kind.BoolValue {
			return append(to, 't')
		}
		return append(to, 'f')
	case *structpb.Value_NumberValue:
		to = append(to, 'd')
		return append(strconv.AppendUint(to, math.Float64bits(kind.NumberValue), 16), ';')
	case *structpb.Value_StringValue:
		return appendText(to, kind.StringValue)
	case *structpb.Value_ListValue:
		return appendList(to, kind.ListValue)
	case *structpb.Value_StructValue:
		return appendObject(to, kind.StructValue)
	default:
		return append(to, '?')
	}
}
