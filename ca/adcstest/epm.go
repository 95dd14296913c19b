package adcstest

import (
	"context"
	"net"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcetypes"
	epm "github.com/oiweiwei/go-msrpc/msrpc/epm/epm/v3"
)

// mapped is an interface in the endpoint mapper.
type mapped struct {
	id   *dcerpc.SyntaxID
	port int
	note string
}

// endpointMapper answers ept_lookup and ept_map (C706, appendix O): the one is
// what go-msrpc asks, the other what Windows and impacket ask.
type endpointMapper struct {
	epm.UnimplementedEpmServer
	ip      net.IP
	entries func() []mapped
}

// notRegistered is EPT_S_NOT_REGISTERED as the endpoint mapper says it.
const notRegistered uint32 = 0x16C9A0D6

func (e *endpointMapper) tower(m mapped) *dcetypes.Tower {
	t := dcetypes.FloorsToTower([]*dcetypes.Floor{
		{Protocol: uint8(dcetypes.ProtocolUUID), UUID: m.id.IfUUID, VersionMajor: m.id.IfVersionMajor, Data: []byte{0, 0}},
		{Protocol: uint8(dcetypes.ProtocolUUID), UUID: dcerpc.TransferNDR, VersionMajor: 2, Data: []byte{0, 0}},
		{Protocol: uint8(dcetypes.ProtocolRPC_CO), Data: []byte{0, 0}},
		{Protocol: uint8(dcetypes.ProtocolTCP), Data: []byte{byte(m.port >> 8), byte(m.port)}},
		{Protocol: uint8(dcetypes.ProtocolIP), Data: e.ip.To4()},
	})
	t.TowerLength = uint32(len(t.TowerOctetString))
	return t
}

// Lookup implements ept_lookup.
func (e *endpointMapper) Lookup(_ context.Context, in *epm.LookupRequest) (*epm.LookupResponse, error) {
	r := &epm.LookupResponse{EntryHandle: &epm.LookupHandle{}}
	for _, m := range e.entries() {
		if in.InterfaceID == nil || in.InterfaceID.UUID.UUID().Equals(m.id.IfUUID) {
			r.Entries = append(r.Entries, &epm.Entry{Tower: e.tower(m), Annotation: m.note})
		}
	}
	if r.EntriesLength = uint32(len(r.Entries)); r.EntriesLength == 0 {
		r.Status = notRegistered
	}
	return r, nil
}

// Map implements ept_map.
func (e *endpointMapper) Map(_ context.Context, in *epm.MapRequest) (*epm.MapResponse, error) {
	r := &epm.MapResponse{EntryHandle: &epm.LookupHandle{}, MaxTowers: in.MaxTowers}
	if in.MapTower != nil {
		asked := in.MapTower.Binding().SyntaxID.IfUUID
		for _, m := range e.entries() {
			if asked != nil && asked.Equals(m.id.IfUUID) {
				r.Towers = append(r.Towers, e.tower(m))
			}
		}
	}
	if r.TowersLength = uint32(len(r.Towers)); r.TowersLength == 0 {
		r.Status = notRegistered
	}
	return r, nil
}
