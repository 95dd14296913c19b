package adcstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/oiweiwei/go-msrpc/dcerpc"
)

// Fault codes of RPC and Windows.
const (
	faultAccessDenied     uint32 = 5
	faultSecurity         uint32 = 0x721      // RPC_S_SEC_PKG_ERROR
	faultStub             uint32 = 0x6F7      // RPC_X_BAD_STUB_DATA
	faultOperation        uint32 = 0x1C010002 // nca_s_op_rng_error
	faultUnknownInterface uint32 = 0x1C010003 // nca_s_unk_if
	faultDisconnected     uint32 = 0x80010108 // RPC_E_DISCONNECTED
)

// fault is an error that a handler sends as a fault packet.
type fault uint32

func (f fault) Error() string { return fmt.Sprintf("fault 0x%08x", uint32(f)) }

// errDrop is an error of a handler upon which the connection is cut.
var errDrop = errors.New("the answer is dropped")

// rpcInterface is an interface and its least authentication level.
type rpcInterface struct {
	syntax  syntaxID
	level   byte
	handler dcerpc.ServerHandle
	faulty  bool // an interface of the CA: faults of the core show here
}

// rpcServer is the server's side of connection-oriented DCE/RPC (C706,
// chapter 12; [MS-RPCE]).
type rpcServer struct {
	ca         *CA
	offered    acceptors
	interfaces []rpcInterface
	caller     func(call) // told of each authenticated call

	accepting sync.WaitGroup
	mu        sync.Mutex
	conns     map[net.Conn]bool
	wg        sync.WaitGroup // of connections
	group     atomic.Uint32
}

// call is who calls, and how.
type call struct {
	account   string
	mechanism string
	level     byte
	object    [16]byte // IPID
}

type callKey struct{}

func callOf(ctx context.Context) call {
	c, _ := ctx.Value(callKey{}).(call)
	return c
}

func (s *rpcServer) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			defer func() {
				c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			}()
			_, port, _ := net.SplitHostPort(l.Addr().String())
			s.converse(c, port)
		})
	}
}

// cut closes all connections and waits for them. The listener is closed
// before: no connection is to come in behind our back.
func (s *rpcServer) cut() {
	s.accepting.Wait()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// rpcConn is one connection.
type rpcConn struct {
	*rpcServer
	w           net.Conn
	port        string
	contexts    map[uint16]*rpcInterface
	security    map[uint32]*securityContext
	maxTransmit int
	group       uint32
	headerSign  bool

	stub    []byte // of a request in fragments
	context uint16 // of its first fragment
	opnum   uint16
	object  [16]byte
}

// securityContext is one authentication of a connection.
type securityContext struct {
	acceptor
	kind, level byte
	id          uint32
	done        bool
}

// converse serves a connection until it ends. Reading goes on while a call is
// served, so that a call knows when its client has gone.
func (s *rpcServer) converse(w net.Conn, port string) {
	c := &rpcConn{
		rpcServer: s, w: w, port: port, maxTransmit: maxFragment,
		contexts: map[uint16]*rpcInterface{}, security: map[uint32]*securityContext{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	packets := make(chan *pdu)
	s.wg.Go(func() {
		defer close(packets)
		defer cancel()
		for {
			p, err := readPDU(w)
			if err != nil {
				return
			}
			select {
			case packets <- p:
			case <-ctx.Done():
				return
			}
		}
	})
	for p := range packets {
		if err := c.take(ctx, p); err != nil {
			w.Close()
			cancel()
			return
		}
	}
}

// take serves one packet; an error ends the connection.
func (c *rpcConn) take(ctx context.Context, p *pdu) error {
	switch p.kind {
	case pduBind, pduAlter:
		return c.bind(p)
	case pduAuth3:
		return c.auth3(p)
	case pduRequest:
		return c.request(ctx, p)
	case pduCancel, pduOrphaned:
		return nil
	}
	return fmt.Errorf("packet of type %d", p.kind)
}

// auth3 is the last leg. A failure shows in the next request, as with Windows.
func (c *rpcConn) auth3(p *pdu) error {
	if p.trailer == nil || c.security[p.contextID()] == nil {
		return errors.New("auth3 without a bind")
	}
	s := c.security[p.contextID()]
	_, done, err := s.accept(p.signature)
	s.done = err == nil && done
	return nil
}
