package adcstest

import (
	"context"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce"
	request "github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce/icertrequestd/v0"
	request2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce/icertrequestd2/v0"
	icpr "github.com/oiweiwei/go-msrpc/msrpc/icpr/icertpassage/v0"
	"github.com/oiweiwei/go-msrpc/ndr"
)

// The longest string of a call ([MS-WCCE], section 2.2.2.7: the NDR range).
const maxAttributes = 1536

// submission is a request as all three calls carry it.
type submission struct {
	authority  string
	id         uint32
	serial     string
	attributes string
	blob       []byte
	flags      uint32
}

// answer is an Outcome as it goes on the wire.
type answer struct {
	id, disposition      uint32
	chain, cert, message *wcce.CertTransportBlob
	hresult              int32
}

func blob(b []byte) *wcce.CertTransportBlob {
	return &wcce.CertTransportBlob{Length: uint32(len(b)), Buffer: b}
}

func bytesOf(b *wcce.CertTransportBlob) []byte {
	if b == nil {
		return nil
	}
	return b.Buffer
}

// Request types that we read ([MS-WCCE], section 3.2.1.4.2.1.1).
const (
	requestAny    uint32 = 0x000
	requestPKCS10 uint32 = 0x100
	requestMask   uint32 = 0xF00
)

// serve carries out a submission or, with an empty blob, a retrieval.
func (s submission) serve(ctx context.Context, c *CA) (answer, error) {
	account := callOf(ctx).account
	var o Outcome
	switch kind := s.flags & requestMask; {
	case s.authority != c.name || len(s.attributes) > maxAttributes:
		o = Outcome{HResult: InvalidArgument}
	case len(s.blob) == 0:
		o = c.Retrieve(account, s.id, s.serial)
	case kind != requestAny && kind != requestPKCS10:
		o = Outcome{HResult: InvalidArgument, Message: "Only PKCS #10 requests are read here."}
	default:
		o = c.Submit(ctx, account, s.attributes, s.blob)
		if o.Disposition != 0 && c.takeFault(DropAfterIssue) {
			return answer{}, errDrop
		}
	}
	return c.wireAnswer(o), nil
}

// wireAnswer puts an HRESULT in the disposition's place where the request was
// refused, as a real CA does.
func (c *CA) wireAnswer(o Outcome) answer {
	a := answer{id: o.RequestID, disposition: o.Disposition, chain: blob(o.Chain), cert: blob(o.Certificate), message: blob(nil)}
	if o.Message != "" {
		a.message = blob(wireString(o.Message))
	}
	c.mu.Lock()
	both := c.quirks.ReturnsHResult
	c.mu.Unlock()
	switch o.Disposition {
	case 0:
		a.hresult = o.HResult
	case DispositionDenied, DispositionFailed:
		a.disposition = uint32(o.HResult)
		if both {
			a.hresult = o.HResult
		}
	}
	return a
}

// passageFace is ICertPassage ([MS-ICPR]).
type passageFace struct{ ca *CA }

// CertServerRequest takes the attributes as UTF-16LE with a NUL that counts.
func (f passageFace) CertServerRequest(ctx context.Context, in *icpr.CertServerRequestRequest) (*icpr.CertServerRequestResponse, error) {
	raw := bytesOf(in.Attributes)
	if n := len(raw); n%2 != 0 || n >= 2 && (raw[n-1] != 0 || raw[n-2] != 0) {
		hr := InvalidArgument
		return &icpr.CertServerRequestResponse{Cert: blob(nil), EncodedCert: blob(nil), DispositionMessage: blob(nil), Return: uint32(hr)}, nil
	}
	a, err := submission{
		authority: in.Authority, id: in.RequestID, attributes: decodeUTF16(raw, false), blob: bytesOf(in.Request), flags: in.Flags,
	}.serve(ctx, f.ca)
	return &icpr.CertServerRequestResponse{
		RequestID: a.id, Disposition: a.disposition, Cert: a.chain, EncodedCert: a.cert, DispositionMessage: a.message, Return: uint32(a.hresult),
	}, err
}

// of is a handler that serves the objects of one class only.
func (e *exporter) of(class string, h dcerpc.ServerHandle) dcerpc.ServerHandle {
	return func(ctx context.Context, opnum int, r ndr.Reader) (dcerpc.Operation, error) {
		if e.class(ctx) != class {
			return nil, fault(faultDisconnected)
		}
		return h(ctx, opnum, r)
	}
}

// requestFace is ICertRequestD2 ([MS-WCCE], section 3.2.1.4).
type requestFace struct {
	request2.UnimplementedCertRequestD2Server
	ca *CA
	e  *exporter
}

func (f requestFace) Request(ctx context.Context, in *request.RequestRequest) (*request.RequestResponse, error) {
	a, err := submission{
		authority: in.Authority, id: in.RequestID, attributes: in.Attributes, blob: bytesOf(in.Request), flags: in.Flags,
	}.serve(ctx, f.ca)
	return &request.RequestResponse{
		That: that(), RequestID: a.id, Disposition: a.disposition, CertChain: a.chain, EncodedCert: a.cert,
		DispositionMessage: a.message, Return: a.hresult,
	}, err
}

func (f requestFace) Request2(ctx context.Context, in *request2.Request2Request) (*request2.Request2Response, error) {
	a, err := submission{
		authority: in.Authority, id: in.RequestID, serial: in.SerialNumber, attributes: in.Attributes,
		blob: bytesOf(in.Request), flags: in.Flags,
	}.serve(ctx, f.ca)
	return &request2.Request2Response{
		That: that(), RequestID: a.id, Disposition: a.disposition, FullResponse: a.chain, EncodedCert: a.cert,
		DispositionMessage: a.message, Return: a.hresult,
	}, err
}

// may says why a caller may not use the interface at all, or 0.
func (f requestFace) may(ctx context.Context, authority string) int32 {
	if authority != "" && authority != f.ca.name {
		return InvalidArgument
	}
	return f.ca.require(callOf(ctx).account, RoleEnroll)
}

// Kinds of GetCACert ([MS-WCCE], section 3.2.1.4.2.2).
const (
	wantCertificate uint32 = 0x00000000 // GETCERT_CASIGCERT
	wantChain       uint32 = 0x00000001 // GETCERT_CACERTCHAIN
	wantCRL         uint32 = 0x6363726C // "ccrl"
)

func (f requestFace) GetCACert(ctx context.Context, in *request.GetCACertRequest) (*request.GetCACertResponse, error) {
	r := &request.GetCACertResponse{That: that(), Out: blob(nil), Return: f.may(ctx, in.Authority)}
	if r.Return != 0 {
		return r, nil
	}
	switch in.Chain {
	case wantCertificate:
		r.Out = blob(f.ca.cert.Raw)
	case wantChain:
		r.Out = blob(certsOnly(f.ca.cert.Raw, f.ca.root.Raw))
	case wantCRL:
		r.Out = blob(f.ca.CRL(false))
	default:
		r.Return = InvalidArgument
	}
	return r, nil
}

func (f requestFace) Ping(ctx context.Context, in *request.PingRequest) (*request.PingResponse, error) {
	return &request.PingResponse{That: that(), Return: f.may(ctx, in.Authority)}, nil
}

func (f requestFace) Ping2(ctx context.Context, in *request2.Ping2Request) (*request2.Ping2Response, error) {
	return &request2.Ping2Response{That: that(), Return: f.may(ctx, in.Authority)}, nil
}

func (f requestFace) GetCAProperty(ctx context.Context, in *request2.GetCAPropertyRequest) (*request2.GetCAPropertyResponse, error) {
	r := &request2.GetCAPropertyResponse{That: that(), PropertyValue: blob(nil), Return: f.may(ctx, in.Authority)}
	if r.Return == 0 {
		var value []byte
		value, r.Return = f.ca.Property(uint32(in.PropertyID), uint32(in.PropertyIndex), uint32(in.PropertyType))
		r.PropertyValue = blob(value)
	}
	return r, nil
}
