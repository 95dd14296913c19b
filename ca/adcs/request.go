package adcs

import (
	"context"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce"
	request2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce/icertrequestd2/v0"
)

// requestPKCS10 is CR_IN_PKCS10 as the wire has it ([MS-WCCE], section
// 3.2.1.4.2.1.1).
const requestPKCS10 = 0x100

// submission is one call for a certificate: a new request, or with an ID and
// no bytes the question for its outcome.
type submission struct {
	csr        []byte
	id         uint32
	attributes string
}

func (s submission) flags() uint32 {
	if len(s.csr) == 0 {
		return 0
	}
	return requestPKCS10
}

// reply is what the CA answers to a submission on any road.
type reply struct {
	ret         int32 // HRESULT of the call
	id          uint32
	disposition uint32
	cert        []byte
	message     string
}

// requester is a connection on which requests are made. An error means that
// there is no answer; an answer may be a refusal.
type requester interface {
	request(ctx context.Context, s submission) (reply, error)
	wire() *wire
}

// dcomRequester speaks ICertRequestD2 ([MS-WCCE], section 3.2.1.4.3).
type dcomRequester struct {
	*object
	authority string
	client    request2.CertRequestD2Client
}

func (r *dcomRequester) wire() *wire { return r.object.wire }

func (c *CA) dialDCOM(ctx context.Context) (requester, error) {
	r := &dcomRequester{authority: c.authority}
	o, err := c.activate(ctx, classRequest, request2.CertRequestD2IID,
		func(ctx context.Context, cc dcerpc.Conn, _ *object, opts []dcerpc.Option) (err error) {
			r.client, err = request2.NewCertRequestD2Client(ctx, cc, opts...)
			return err
		})
	if err != nil {
		return nil, err
	}
	r.object = o
	return r, nil
}

func (r *dcomRequester) request(ctx context.Context, s submission) (reply, error) {
	out, err := r.client.Request2(ctx, &request2.Request2Request{
		This: r.this(), Authority: r.authority, Flags: s.flags(), RequestID: s.id, Attributes: s.attributes,
		Request: &wcce.CertTransportBlob{Length: uint32(len(s.csr)), Buffer: s.csr},
	})
	if out == nil {
		return reply{}, err
	}
	return reply{
		ret: out.Return, id: out.RequestID, disposition: out.Disposition,
		cert: blobBytes(out.EncodedCert), message: blobText(out.DispositionMessage),
	}, nil
}

// property asks for one property of the CA ([MS-WCCE], section 3.2.1.4.3.2).
func (r *dcomRequester) property(ctx context.Context, id, index, kind int32) (value []byte, ret int32, err error) {
	out, err := r.client.GetCAProperty(ctx, &request2.GetCAPropertyRequest{
		This: r.this(), Authority: r.authority, PropertyID: id, PropertyIndex: index, PropertyType: kind,
	})
	if out == nil {
		return nil, 0, err
	}
	return blobBytes(out.PropertyValue), out.Return, nil
}
