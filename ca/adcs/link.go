package adcs

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// dialTimeout bounds one TCP connection attempt.
const dialTimeout = 10 * time.Second

// link is a TCP connection that hands the library whole, checked PDUs, sees
// when the peer closes it while it is idle, and knows whether a call was
// written and whether it was answered with a fault.
type link struct {
	net.Conn
	incoming chan []byte
	gone     chan struct{} // closed when nothing can be read any more
	closed   chan struct{} // closed when nobody reads any more
	closing  sync.Once
	rest     []byte // of the PDU being handed out; used by the reader alone

	mu       sync.Mutex
	phase    phase
	sent     bool // the last fragment of a call was (perhaps) written
	received int  // bytes of the reply
	fault    uint32
	err      error // why it ended
}

func newLink(conn net.Conn) *link {
	l := &link{Conn: conn, incoming: make(chan []byte, 4), gone: make(chan struct{}), closed: make(chan struct{})}
	go l.receive()
	return l
}

// receive reads PDUs until the connection ends.
func (l *link) receive() {
	defer close(l.gone)
	for {
		head := make([]byte, pduHeader)
		if _, err := io.ReadFull(l.Conn, head); err != nil {
			l.end(err)
			return
		}
		length, err := checkHeader(head)
		if err != nil {
			l.end(err)
			return
		}
		pdu := make([]byte, length)
		copy(pdu, head)
		if _, err := io.ReadFull(l.Conn, pdu[pduHeader:]); err != nil {
			l.end(err)
			return
		}
		select {
		case l.incoming <- pdu:
		case <-l.closed:
			return
		}
	}
}

// end keeps the first reason and closes the connection.
func (l *link) end(err error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = err
	}
	l.mu.Unlock()
	l.Close()
}

// Close closes the connection.
func (l *link) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return l.Conn.Close()
}

// why returns the reason for which the connection ended, nil while it lives.
func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// alive reports whether an idle connection can take a call.
func (l *link) alive() bool {
	select {
	case <-l.gone:
		return false
	default:
		return l.why() == nil && len(l.incoming) == 0 && len(l.rest) == 0
	}
}

// expect says what comes next, and forgets the last call.
func (l *link) expect(p phase) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase, l.sent, l.received, l.fault = p, false, 0, 0
}

// outcome tells whether the call was written, and the status of a fault.
func (l *link) outcome() (sent bool, fault uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent, l.fault
}

// Read hands out checked PDUs.
func (l *link) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		pdu, err := l.next()
		if err != nil {
			l.end(err)
			return 0, err
		}
		l.rest = pdu
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *link) next() ([]byte, error) {
	var pdu []byte
	select {
	case pdu = <-l.incoming:
	case <-l.gone:
		select { // what came before the end counts
		case pdu = <-l.incoming:
		default:
			if err := l.why(); err != nil {
				return nil, err
			}
			return nil, io.ErrUnexpectedEOF
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := checkPDU(pdu, l.phase); err != nil {
		return nil, err
	}
	if l.received += len(pdu); l.received > 2*maxReply {
		return nil, fmt.Errorf("%w: reply of more than %d bytes", errPDU, l.received)
	}
	if pdu[2] == pduFault {
		l.fault = faultStatus(pdu)
	}
	return pdu, nil
}

// Write sends one PDU, as the library gives it.
func (l *link) Write(p []byte) (int, error) {
	l.mu.Lock()
	err := checkOutgoing(p, l.phase)
	if err == nil && len(p) >= pduHeader && p[2] == pduRequest && p[3]&pduLastFragment != 0 {
		l.sent = true
	}
	l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return l.Conn.Write(p)
}

// hostDialer connects to the configured host whatever address the library
// asks for: string bindings name interfaces that may not be reachable, or a
// NetBIOS name. Of the address only the port counts.
type hostDialer struct {
	host    string
	connect connector
	got     func(*link)
}

// connector makes TCP connections; tests put themselves in between.
type connector func(ctx context.Context, network, address string) (net.Conn, error)

func dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	return d.DialContext(ctx, network, address)
}

// DialContext implements the library's dialer.
func (d hostDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("no TCP port: %q", port)
	}
	conn, err := d.connect(ctx, network, net.JoinHostPort(d.host, port))
	if err != nil {
		return nil, err
	}
	l := newLink(conn)
	d.got(l)
	return l, nil
}
