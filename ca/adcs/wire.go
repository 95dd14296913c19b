package adcs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/midl/uuid"
	"github.com/oiweiwei/go-msrpc/ndr"
)

// libraryTimeout is far above every deadline of ours, which end a call first:
// the library's own default of 10 s is short for a busy CA.
const libraryTimeout = 10 * time.Minute

// wire is one RPC connection of the library with a guard on either side of it:
// link below, guarded calls above. It serves one call at a time: the library's
// buffers are shared between calls of a connection.
type wire struct {
	conn   dcerpc.Conn
	cancel context.CancelFunc
	life   context.Context // of the connection's own goroutines, which outlive the call that dialled

	mu   sync.Mutex
	link *link
}

// newWire prepares a connection to a port of the host; the first bind dials.
func newWire(ctx context.Context, host string, port int, connect connector) (*wire, error) {
	w := &wire{}
	w.life, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	got := func(l *link) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.link = l
	}
	// The address is a stand-in: the dialer knows the host, and the library
	// would look up IPv4 addresses alone.
	conn, err := dcerpc.Dial(w.life, "127.0.0.1", dcerpc.WithEndpoint("ncacn_ip_tcp:["+strconv.Itoa(port)+"]"),
		dcerpc.WithDialer(hostDialer{host: host, connect: connect, got: got}), dcerpc.WithTimeout(libraryTimeout))
	if err != nil {
		w.cancel()
		return nil, err
	}
	w.conn = conn
	return w, nil
}

func (w *wire) currentLink() *link {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.link
}

func (w *wire) alive() bool {
	l := w.currentLink()
	return l != nil && l.alive()
}

// outcome tells of the last call whether it was written, and its fault.
func (w *wire) outcome() (sent bool, fault uint32) {
	if l := w.currentLink(); l != nil {
		return l.outcome()
	}
	return false, 0
}

// close ends the connection, its socket first so that nothing waits for it.
func (w *wire) close() {
	if l := w.currentLink(); l != nil {
		l.Close()
	}
	w.cancel()
	w.conn.Close(context.WithoutCancel(w.life))
}

// bind runs a client's constructor with a connection that guards its binds and
// calls. The constructor gets the connection's own life as context: the
// library ends its goroutines with the context of the first bind.
func (w *wire) bind(ctx context.Context, sealed bool, construct func(ctx context.Context, cc dcerpc.Conn) error) (err error) {
	defer recoverInto(&err)
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		if l := w.currentLink(); l != nil {
			l.end(context.Cause(ctx))
		}
		w.cancel()
	})
	defer stop()
	calls := phasePlain
	if sealed {
		calls = phaseSealed
	}
	err = construct(w.life, &guarded{Conn: w.conn, wire: w, calls: calls})
	if cause := ctx.Err(); err != nil && cause != nil {
		return cause
	}
	return w.explain(err)
}

// explain adds why the connection ended, which the library may not say.
func (w *wire) explain(err error) error {
	if err == nil {
		return nil
	}
	if l := w.currentLink(); l != nil {
		if why := l.why(); why != nil && !errors.Is(err, why) && !errors.Is(why, net.ErrClosed) {
			return fmt.Errorf("%w (%w)", err, why)
		}
	}
	return err
}

// guarded is a connection as the library's clients see it.
type guarded struct {
	dcerpc.Conn
	wire  *wire
	calls phase
}

// Bind implements dcerpc.Conn.
func (g *guarded) Bind(ctx context.Context, opts ...dcerpc.Option) (dcerpc.Conn, error) {
	if l := g.wire.currentLink(); l != nil {
		l.expect(phaseBind)
	}
	bound, err := g.Conn.Bind(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return &guarded{Conn: bound, wire: g.wire, calls: g.calls}, nil
}

// Invoke implements dcerpc.Conn.
func (g *guarded) Invoke(ctx context.Context, op dcerpc.Operation, opts ...dcerpc.CallOption) error {
	return g.invoke(ctx, op, func(op dcerpc.Operation) error { return g.Conn.Invoke(ctx, op, opts...) })
}

// InvokeObject implements dcerpc.Conn.
func (g *guarded) InvokeObject(ctx context.Context, obj *uuid.UUID, op dcerpc.Operation, opts ...dcerpc.CallOption) error {
	return g.invoke(ctx, op, func(op dcerpc.Operation) error { return g.Conn.InvokeObject(ctx, obj, op, opts...) })
}

func (g *guarded) invoke(ctx context.Context, op dcerpc.Operation, call func(dcerpc.Operation) error) (err error) {
	defer recoverInto(&err)
	l := g.wire.currentLink()
	if l == nil {
		return errors.New("not connected")
	}
	l.expect(g.calls)
	if err := ctx.Err(); err != nil {
		return err
	}
	// The library waits for its own goroutines; closing the socket frees it.
	stop := context.AfterFunc(ctx, func() { l.end(context.Cause(ctx)) })
	defer stop()
	decoding := &decoding{Operation: op, done: make(chan struct{})}
	if err := call(decoding); err != nil {
		if cause := ctx.Err(); cause != nil {
			return cause
		}
		return g.wire.explain(err)
	}
	select {
	case <-decoding.done:
		return decoding.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// decoding is an operation whose reply is decoded in a goroutine of the
// library: a panic there would end the process, and the library ignores both
// the error and a reply that ends too early.
type decoding struct {
	dcerpc.Operation
	done chan struct{}
	err  error // read after done
}

// UnmarshalNDRResponse implements dcerpc.Operation.
func (d *decoding) UnmarshalNDRResponse(ctx context.Context, r ndr.Reader) error {
	defer close(d.done)
	d.err = func() (err error) {
		defer recoverInto(&err)
		return d.Operation.UnmarshalNDRResponse(ctx, r)
	}()
	if d.err != nil {
		d.err = fmt.Errorf("decoding the reply: %w", d.err)
		r.SetErr(d.err)
	}
	return d.err
}

// recoverInto turns a panic of the library over foreign bytes into an error.
func recoverInto(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: the library gave up over it: %v", errPDU, p)
	}
}
