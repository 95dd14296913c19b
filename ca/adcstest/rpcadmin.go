package adcstest

import (
	"context"
	"time"

	"github.com/oiweiwei/go-msrpc/msrpc/dcom/csra"
	admin "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind/v0"
	admin2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind2/v0"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
)

// adminFace is ICertAdminD2 ([MS-CSRA], section 3.1.4). The methods that it
// does not have answer with E_NOTIMPL's fault.
type adminFace struct {
	admin2.UnimplementedCertAdminD2Server
	ca *CA
	e  *exporter
}

func adminBlob(b []byte) *csra.CertTransportBlob {
	return &csra.CertTransportBlob{Length: uint32(len(b)), Buffer: b}
}

// everyRole implies the right to read.
const everyRole = RoleAdministrator | RoleOfficer | RoleRead | RoleEnroll

// may says why a caller may not call, or 0. A role of 0 asks for the CA's name
// only: the core looks after the rights itself.
func (f adminFace) may(ctx context.Context, authority string, roles uint32) int32 {
	switch {
	case authority != f.ca.name:
		return InvalidArgument
	case roles != 0 && f.ca.Roles(callOf(ctx).account)&roles == 0:
		return AccessDenied
	}
	return 0
}

// timeOf reads a FILETIME; 0 is no time.
func timeOf(t *dtyp.Filetime) time.Time {
	if t == nil || t.IsZero() {
		return time.Time{}
	}
	return t.AsTime()
}

func (f adminFace) RevokeCertificate(ctx context.Context, in *admin.RevokeCertificateRequest) (*admin.RevokeCertificateResponse, error) {
	r := &admin.RevokeCertificateResponse{That: that(), Return: f.may(ctx, in.Authority, 0)}
	if r.Return == 0 {
		r.Return = f.ca.Revoke(callOf(ctx).account, in.SerialNumber, in.Reason, timeOf(in.FileTime))
		if r.Return == 0 && f.ca.takeFault(DropAfterIssue) {
			return r, errDrop
		}
	}
	return r, nil
}

func (f adminFace) IsValidCertificate(ctx context.Context, in *admin.IsValidCertificateRequest) (*admin.IsValidCertificateResponse, error) {
	r := &admin.IsValidCertificateResponse{That: that(), Return: f.may(ctx, in.Authority, everyRole)}
	if r.Return == 0 {
		validity, reason := f.ca.IsValid(in.SerialNumber)
		r.Disposition, r.RevocationReason = int32(validity), int32(reason)
	}
	return r, nil
}

func (f adminFace) ResubmitRequest(ctx context.Context, in *admin.ResubmitRequestRequest) (*admin.ResubmitRequestResponse, error) {
	r := &admin.ResubmitRequestResponse{That: that(), Return: f.may(ctx, in.Authority, 0)}
	if r.Return == 0 {
		if r.Return = f.ca.Approve(callOf(ctx).account, in.RequestID); r.Return == 0 {
			r.Disposition = DispositionIssued
		}
	}
	return r, nil
}

func (f adminFace) DenyRequest(ctx context.Context, in *admin.DenyRequestRequest) (*admin.DenyRequestResponse, error) {
	r := &admin.DenyRequestResponse{That: that(), Return: f.may(ctx, in.Authority, 0)}
	if r.Return == 0 {
		r.Return = f.ca.Deny(callOf(ctx).account, in.RequestID)
	}
	return r, nil
}

// publish makes lists that hold until a time, zero for the CA's own choice.
func (f adminFace) publish(ctx context.Context, authority string, until time.Time, flags uint32) int32 {
	if hr := f.may(ctx, authority, 0); hr != 0 {
		return hr
	}
	var life time.Duration
	if !until.IsZero() {
		if life = until.Sub(f.ca.clock()); life <= 0 {
			return InvalidArgument
		}
	}
	return f.ca.PublishCRLs(callOf(ctx).account, life, flags)
}

func (f adminFace) PublishCRL(ctx context.Context, in *admin.PublishCRLRequest) (*admin.PublishCRLResponse, error) {
	return &admin.PublishCRLResponse{That: that(), Return: f.publish(ctx, in.Authority, timeOf(in.FileTime), PublishBase)}, nil
}

func (f adminFace) PublishCRLs(ctx context.Context, in *admin2.PublishCRLsRequest) (*admin2.PublishCRLsResponse, error) {
	return &admin2.PublishCRLsResponse{That: that(), Return: f.publish(ctx, in.Authority, timeOf(in.FileTime), in.Flags)}, nil
}

func (f adminFace) GetCRL(ctx context.Context, in *admin.GetCRLRequest) (*admin.GetCRLResponse, error) {
	r := &admin.GetCRLResponse{That: that(), CRL: adminBlob(nil), Return: f.may(ctx, in.Authority, everyRole)}
	if r.Return == 0 {
		r.CRL = adminBlob(f.ca.CRL(false))
	}
	return r, nil
}

func (f adminFace) GetCAProperty(ctx context.Context, in *admin2.GetCAPropertyRequest) (*admin2.GetCAPropertyResponse, error) {
	r := &admin2.GetCAPropertyResponse{That: that(), PropertyValue: adminBlob(nil), Return: f.may(ctx, in.Authority, everyRole)}
	if r.Return == 0 {
		var value []byte
		value, r.Return = f.ca.Property(uint32(in.PropertyID), uint32(in.PropertyIndex), uint32(in.PropertyType))
		r.PropertyValue = adminBlob(value)
	}
	return r, nil
}

// Ping and Ping2 of this interface are for administrators.
func (f adminFace) Ping(ctx context.Context, in *admin.PingRequest) (*admin.PingResponse, error) {
	return &admin.PingResponse{That: that(), Return: f.may(ctx, in.Authority, RoleAdministrator)}, nil
}

// Ping2 is for administrators.
func (f adminFace) Ping2(ctx context.Context, in *admin2.Ping2Request) (*admin2.Ping2Response, error) {
	return &admin2.Ping2Response{That: that(), Return: f.may(ctx, in.Authority, RoleAdministrator)}, nil
}

// GetServerState wants no right; it tells whether the caller may read.
func (f adminFace) GetServerState(ctx context.Context, in *admin.GetServerStateRequest) (*admin.GetServerStateResponse, error) {
	r := &admin.GetServerStateResponse{That: that(), Return: f.may(ctx, in.Authority, 0)}
	if r.Return == 0 && f.may(ctx, in.Authority, everyRole) == 0 {
		r.State = 1
	}
	return r, nil
}

func (f adminFace) GetMyRoles(ctx context.Context, in *admin2.GetMyRolesRequest) (*admin2.GetMyRolesResponse, error) {
	r := &admin2.GetMyRolesResponse{That: that(), Return: f.may(ctx, in.Authority, everyRole)}
	if r.Return == 0 {
		r.Roles = int32(f.ca.Roles(callOf(ctx).account))
	}
	return r, nil
}
