package adcstest

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
)

// RPCOptions say how the CA is reached over RPC. The zero value offers NTLM,
// ICPR and DCOM on loopback.
type RPCOptions struct {
	Keytab  string // file with the keys of host/<Host>; "": no Kerberos
	NoNTLM  bool
	NoICPR  bool   // IF_NORPCICERTREQUEST: ICertPassage is not registered
	NoDCOM  bool   // DCOM is off on the machine
	Address string // IP to listen at; "": 127.0.0.1
	Port    int    // of the endpoint mapper; 0: any (a real one has 135)
}

// RPC is the CA on RPC: an endpoint mapper that also activates DCOM objects,
// the port of the objects, and the port of ICertPassage.
type RPC struct {
	ca   *CA
	o    RPCOptions
	e    *exporter
	mu   sync.Mutex
	seen []Caller
	over bool // closed

	mapper, objects, passage             *rpcServer
	mapperPort, objectsPort, passagePort net.Listener
}

// Caller is somebody who called, once for each way.
type Caller struct {
	Account   string
	Mechanism string // "NTLM" or "Kerberos"
	Level     byte   // 6 is packet privacy
}

// ServeRPC serves the CA over RPC until Close.
func (c *CA) ServeRPC(o RPCOptions) (*RPC, error) {
	o.Address = cmp.Or(o.Address, "127.0.0.1")
	r := &RPC{ca: c, o: o, e: &exporter{ca: c, host: o.Address}}
	offered, err := c.acceptors(o)
	if err != nil {
		return nil, err
	}
	newServer := func(list ...rpcInterface) *rpcServer {
		return &rpcServer{ca: c, offered: offered, interfaces: list, caller: r.called, conns: map[net.Conn]bool{}}
	}
	r.mapper, r.objects, r.passage = newServer(r.mapperInterfaces()...), newServer(r.objectInterfaces()...), newServer(r.passageInterfaces()...)
	if r.mapperPort, err = r.listen(o.Port, r.mapper); err != nil {
		return nil, err
	}
	if err := r.listenCA(); err != nil {
		r.mapperPort.Close()
		return nil, err
	}
	c.onRestart(r.restart)
	return r, nil
}

// acceptors are the mechanisms that the options offer.
func (c *CA) acceptors(o RPCOptions) (acceptors, error) {
	var a acceptors
	if !o.NoNTLM {
		a.ntlm = func() acceptor {
			return &ntlmAcceptor{
				domain: c.Domain(), computer: c.computer(), dnsDomain: strings.ToLower(c.realm), dnsHost: c.host,
				password: c.Password,
			}
		}
	}
	if o.Keytab != "" {
		keys, err := keytab.Load(o.Keytab)
		if err != nil {
			return a, fmt.Errorf("reading the keytab: %v", err)
		}
		a.kerberos = func() acceptor { return &kerberosAcceptor{keys: keys} }
	}
	return a, nil
}

// computer is the machine's NetBIOS name.
func (c *CA) computer() string {
	first, _, _ := strings.Cut(c.host, ".")
	return strings.ToUpper(first)
}

func (r *RPC) listen(port int, s *rpcServer) (net.Listener, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", r.o.Address, port))
	if err != nil {
		return nil, err
	}
	s.accepting.Go(func() { s.serve(l) })
	return l, nil
}

// listenCA opens the ports of the CA's own process.
func (r *RPC) listenCA() error {
	objects, err := r.listen(0, r.objects)
	if err != nil {
		return err
	}
	passage, err := r.listen(0, r.passage)
	if err != nil {
		objects.Close()
		return err
	}
	r.mu.Lock()
	r.objectsPort, r.passagePort = objects, passage
	r.mu.Unlock()
	r.e.restart(portOf(objects))
	return nil
}

func portOf(l net.Listener) int {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// restart is what clients see of a restart of the service; the endpoint mapper
// belongs to the machine and goes on.
func (r *RPC) restart() error {
	r.mu.Lock()
	objects, passage, over := r.objectsPort, r.passagePort, r.over
	r.mu.Unlock()
	if over {
		return nil
	}
	objects.Close()
	passage.Close()
	r.objects.cut()
	r.passage.cut()
	return r.listenCA()
}

// Close stops serving and cuts all connections.
func (r *RPC) Close() error {
	r.mu.Lock()
	objects, passage, over := r.objectsPort, r.passagePort, r.over
	r.over = true
	r.mu.Unlock()
	if over {
		return nil
	}
	err := errors.Join(r.mapperPort.Close(), objects.Close(), passage.Close())
	for _, s := range []*rpcServer{r.mapper, r.objects, r.passage} {
		s.cut()
	}
	return err
}

// Address is the IP that the CA listens at.
func (r *RPC) Address() string { return r.o.Address }

// EndpointMapperPort is what is 135 at a real CA.
func (r *RPC) EndpointMapperPort() int { return portOf(r.mapperPort) }

// ObjectPort is the port of the DCOM objects; a restart changes it.
func (r *RPC) ObjectPort() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return portOf(r.objectsPort)
}

// PassagePort is the port of ICertPassage; a restart changes it.
func (r *RPC) PassagePort() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return portOf(r.passagePort)
}

// Callers are those who called with authentication, in the order of their
// first calls.
func (r *RPC) Callers() []Caller {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

func (r *RPC) called(c call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	who := Caller{Account: c.account, Mechanism: c.mechanism, Level: c.level}
	if !slices.Contains(r.seen, who) {
		r.seen = append(r.seen, who)
	}
}

// Connections counts the open connections.
func (r *RPC) Connections() int {
	n := 0
	for _, s := range []*rpcServer{r.mapper, r.objects, r.passage} {
		s.mu.Lock()
		n += len(s.conns)
		s.mu.Unlock()
	}
	return n
}
