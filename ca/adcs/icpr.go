package adcs

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"unicode/utf16"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcetypes"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom/wcce"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
	epm "github.com/oiweiwei/go-msrpc/msrpc/epm/epm/v3"
	icpr "github.com/oiweiwei/go-msrpc/msrpc/icpr/icertpassage/v0"
)

const codeNotRegistered = 0x800706D9 // EPT_S_NOT_REGISTERED

// dialICPR connects to ICertPassage ([MS-ICPR]) where the endpoint mapper says.
func (c *CA) dialICPR(ctx context.Context) (requester, error) {
	port, err := c.mapICPR(ctx)
	if err != nil {
		return nil, err
	}
	w, err := newWire(ctx, c.host, port, c.connect)
	if err != nil {
		return nil, c.unreachable("plain RPC", err, 0)
	}
	opts, err := c.mechanism.Options(ctx, c.target)
	if err != nil {
		w.close()
		return nil, c.unreachable("signing in", err, 0)
	}
	r := &icprRequester{authority: c.authority, w: w}
	err = w.bind(ctx, true, func(ctx context.Context, cc dcerpc.Conn) (err error) {
		r.client, err = icpr.NewCertPassageClient(ctx, cc, protect(c.target, opts)...)
		return err
	})
	if err != nil {
		_, fault := w.outcome()
		w.close()
		c.mechanism.Refused()
		return nil, c.unreachable("binding ICertPassage on port "+strconv.Itoa(port), err, fault)
	}
	return r, nil
}

// mapICPR asks the endpoint mapper for the interface's TCP port.
func (c *CA) mapICPR(ctx context.Context) (int, error) {
	w, err := newWire(ctx, c.host, c.mapperPort, c.connect)
	if err != nil {
		return 0, c.unreachable("endpoint mapper", err, 0)
	}
	defer w.close()
	var entries []*epm.Entry
	err = w.bind(ctx, false, func(bound context.Context, cc dcerpc.Conn) error {
		cl, err := epm.NewEpmClient(bound, cc, dcerpc.WithInsecure())
		if err != nil {
			return err
		}
		id := icpr.CertPassageSyntaxV0_0
		r, err := cl.Lookup(ctx, &epm.LookupRequest{
			InquiryType: 1, VersOption: 3, MaxEntries: 500, // by interface, exact version
			InterfaceID: &dcetypes.InterfaceID{UUID: dtyp.GUIDFromUUID(id.IfUUID), VersMajor: id.IfVersionMajor, VersMinor: id.IfVersionMinor},
		})
		if r != nil {
			entries = r.Entries
		}
		return err
	})
	if port := tcpPort(entries); port > 0 {
		return port, nil
	}
	if _, fault := w.outcome(); err != nil && (fault != 0 || !w.alive()) {
		return 0, c.unreachable("endpoint mapper", err, fault)
	}
	return 0, c.unreachable("endpoint mapper", errors.New("ICertPassage has no TCP endpoint"), codeNotRegistered)
}

func tcpPort(entries []*epm.Entry) (port int) {
	defer func() {
		if recover() != nil {
			port = 0
		}
	}()
	for _, e := range entries {
		if e == nil || e.Tower == nil {
			continue
		}
		b := e.Tower.Binding().StringBinding
		if n, err := strconv.Atoi(b.Endpoint); err == nil && b.ProtocolSequence == dcerpc.ProtocolSequenceIPTCP && n > 0 {
			return n
		}
	}
	return 0
}

type icprRequester struct {
	authority string
	client    icpr.CertPassageClient
	w         *wire
}

func (r *icprRequester) wire() *wire { return r.w }

// request implements requester with CertServerRequest ([MS-ICPR], section 3.2.4.1.1).
func (r *icprRequester) request(ctx context.Context, s submission) (reply, error) {
	var attributes []byte // none with the question for an outcome
	if s.attributes != "" {
		attributes = utf16Bytes(s.attributes)
	}
	out, err := r.client.CertServerRequest(ctx, &icpr.CertServerRequestRequest{
		Flags: s.flags(), Authority: r.authority, RequestID: s.id,
		Attributes: &wcce.CertTransportBlob{Length: uint32(len(attributes)), Buffer: attributes},
		Request:    &wcce.CertTransportBlob{Length: uint32(len(s.csr)), Buffer: s.csr},
	})
	if out == nil {
		return reply{}, err
	}
	return reply{
		ret: int32(out.Return), id: out.RequestID, disposition: out.Disposition,
		cert: blobBytes(out.EncodedCert), message: blobText(out.DispositionMessage),
	}, nil
}

// utf16Bytes is text as blobs carry it: UTF-16LE with its terminating NUL,
// which counts ([MS-ICPR], section 3.2.4.1.1).
func utf16Bytes(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func blobBytes(b *wcce.CertTransportBlob) []byte {
	if b == nil {
		return nil
	}
	return b.Buffer
}

func blobText(b *wcce.CertTransportBlob) string { return utf16Text(blobBytes(b)) }

// utf16Text reads UTF-16LE up to its NUL or end.
func utf16Text(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		v := binary.LittleEndian.Uint16(b)
		if v == 0 {
			break
		}
		u = append(u, v)
	}
	return string(utf16.Decode(u))
}
