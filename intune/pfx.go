package intune

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// PFXPurpose is what an imported PFX certificate is for. Graph compares
// without regard to case.
type PFXPurpose string

// The purposes. Graph knows vpn too, which Microsoft does not support.
const (
	PFXUnassigned      PFXPurpose = "unassigned"
	PFXSMIMEEncryption PFXPurpose = "smimeEncryption"
	PFXSMIMESigning    PFXPurpose = "smimeSigning"
	PFXWiFi            PFXPurpose = "wifi"
)

// UserPFX is a PFX certificate of a user, as Graph's userPFXCertificate. That
// it is imported does not deliver it: a Microsoft connector with the private
// key that KeyName names does.
type UserPFX struct {
	UserPrincipalName string
	Thumbprint        string     // SHA-1 of the certificate, hexadecimal
	IntendedPurpose   PFXPurpose // default unassigned
	Start             time.Time
	Expires           time.Time
	ProviderName      string     // key storage provider that has the private key: Microsoft Software Key Storage Provider
	KeyName           string     // the key's name there
	PaddingScheme     PFXPadding // how the password is encrypted, default oaepSha512
	EncryptedPFX      []byte     // the PFX as it is, protected by its password; Graph gives one zero octet in its place
	EncryptedPassword []byte     // by SealPFXPassword; Graph does not give it back

	Created      time.Time // by Graph
	LastModified time.Time // by Graph
}

// userPFX is a UserPFX on the wire.
type userPFX struct {
	Thumbprint        string `json:"thumbprint"`
	IntendedPurpose   string `json:"intendedPurpose"`
	UserPrincipalName string `json:"userPrincipalName"`
	Start             string `json:"startDateTime"`
	Expires           string `json:"expirationDateTime"`
	ProviderName      string `json:"providerName"`
	KeyName           string `json:"keyName"`
	PaddingScheme     string `json:"paddingScheme"`
	EncryptedPFX      []byte `json:"encryptedPfxBlob"`
	EncryptedPassword []byte `json:"encryptedPfxPassword"`
	Created           string `json:"createdDateTime,omitempty"`
	LastModified      string `json:"lastModifiedDateTime,omitempty"`
}

// UserID asks for the ID of a user by the user principal name. An error that
// wraps ErrNotFound says that the tenant has no such user.
func (c *Client) UserID(ctx context.Context, upn string) (string, error) {
	if err := require("user principal name", upn); err != nil {
		return "", err
	}
	answer, err := c.graph(ctx, graphCall{
		call: callUser, method: http.MethodGet, repeat: true,
		address: c.graphURL("v"+c.config.Endpoints.GraphVersion, "users?$filter=userPrincipalName%20eq%20"+odataText(upn)+"&$select=id"),
	})
	if err != nil {
		return "", err
	}
	var list struct {
		Value *[]struct {
			ID string `json:"id"`
		} `json:"value"`
	}
	if json.Unmarshal(answer, &list) != nil || list.Value == nil {
		return "", &ProtocolError{Call: callUser, Detail: "it has no list of users"}
	}
	switch users := *list.Value; {
	case len(users) == 0:
		return "", fmt.Errorf("user %q: %w", upn, ErrNotFound)
	case len(users) > 1 || !plainName(users[0].ID):
		return "", &ProtocolError{Call: callUser, Detail: "it is not one user with an id"}
	default:
		return users[0].ID, nil
	}
}

// CreatePFX imports a PFX certificate of a user. An error that wraps ErrExists
// says that the user has this certificate already; after a lost answer that
// may be this one.
func (c *Client) CreatePFX(ctx context.Context, p UserPFX) error {
	wire, err := p.wire()
	if err != nil {
		return err
	}
	_, err = c.graph(ctx, graphCall{
		call: callCreatePFX, method: http.MethodPost, content: wire,
		secrets: []string{
			base64.StdEncoding.EncodeToString(p.EncryptedPFX), base64.StdEncoding.EncodeToString(p.EncryptedPassword),
		},
		address: c.graphURL(c.config.Endpoints.PFXVersion, "deviceManagement/userPfxCertificates"),
	})
	return err
}

// PFX asks for an imported certificate, without its contents. An error that
// wraps ErrNotFound says that there is none.
func (c *Client) PFX(ctx context.Context, userID, thumbprint string) (UserPFX, error) {
	id, err := pfxID(userID, thumbprint)
	if err != nil {
		return UserPFX{}, err
	}
	answer, err := c.graph(ctx, graphCall{
		call: callReadPFX, method: http.MethodGet, repeat: true,
		address: c.graphURL(c.config.Endpoints.PFXVersion, "deviceManagement/userPfxCertificates('"+id+"')"),
	})
	if err != nil {
		return UserPFX{}, err
	}
	p, err := parsePFX(answer)
	if err != nil {
		return UserPFX{}, &ProtocolError{Call: callReadPFX, Detail: err.Error()}
	}
	return p, nil
}

// DeletePFX deletes an imported certificate. That there is none is no error.
func (c *Client) DeletePFX(ctx context.Context, userID, thumbprint string) error {
	id, err := pfxID(userID, thumbprint)
	if err != nil {
		return err
	}
	_, err = c.graph(ctx, graphCall{
		call: callDeletePFX, method: http.MethodDelete, repeat: true,
		address: c.graphURL(c.config.Endpoints.PFXVersion, "deviceManagement/userPfxCertificates/"+id),
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// pfxID is the key of an imported certificate.
func pfxID(userID, thumbprint string) (string, error) {
	user := strings.ToLower(strings.ReplaceAll(userID, "-", ""))
	if b, err := hex.DecodeString(user); err != nil || len(b) != 16 {
		return "", fmt.Errorf("%w: the user ID %q is not a GUID", ErrArgument, userID)
	}
	thumbprint, err := checkThumbprint(thumbprint)
	return user + "-" + thumbprint, err
}

// checkThumbprint wants a SHA-1 thumbprint and returns it in lower case.
func checkThumbprint(s string) (string, error) {
	if b, err := hex.DecodeString(s); err != nil || len(b) != 20 {
		return "", fmt.Errorf("%w: the thumbprint is not 40 hexadecimal digits", ErrArgument)
	}
	return strings.ToLower(s), nil
}

// wire checks a certificate that is to be imported.
func (p UserPFX) wire() (userPFX, error) {
	if err := require("user principal name", p.UserPrincipalName, "key storage provider", p.ProviderName, "name of the key", p.KeyName,
		"PFX", string(p.EncryptedPFX), "encrypted password", string(p.EncryptedPassword)); err != nil {
		return userPFX{}, err
	}
	thumbprint, err := checkThumbprint(p.Thumbprint)
	if err != nil {
		return userPFX{}, err
	}
	purpose, err := p.IntendedPurpose.parse()
	if err != nil {
		return userPFX{}, fmt.Errorf("%w: %v", ErrArgument, err)
	}
	padding, _, err := p.PaddingScheme.parse()
	if err != nil {
		return userPFX{}, fmt.Errorf("%w: %v", ErrArgument, err)
	}
	if p.Start.IsZero() || !p.Expires.After(p.Start) {
		return userPFX{}, fmt.Errorf("%w: the certificate's lifetime is missing or malformed", ErrArgument)
	}
	return userPFX{
		Thumbprint: thumbprint, IntendedPurpose: string(purpose), UserPrincipalName: p.UserPrincipalName,
		Start: p.Start.UTC().Format(time.RFC3339), Expires: p.Expires.UTC().Format(time.RFC3339),
		ProviderName: p.ProviderName, KeyName: p.KeyName, PaddingScheme: string(padding),
		EncryptedPFX: p.EncryptedPFX, EncryptedPassword: p.EncryptedPassword,
	}, nil
}

// parse finds a purpose, however it is written.
func (p PFXPurpose) parse() (PFXPurpose, error) {
	if p == "" {
		return PFXUnassigned, nil
	}
	for _, known := range []PFXPurpose{PFXUnassigned, PFXSMIMEEncryption, PFXSMIMESigning, PFXWiFi} {
		if strings.EqualFold(string(p), string(known)) {
			return known, nil
		}
	}
	return "", fmt.Errorf("intended purpose %q is unknown: use unassigned, smimeEncryption, smimeSigning or wifi", p)
}

// parsePFX reads an imported certificate. Purposes and paddings that are not
// known here, or not supported any more, are kept as they came.
func parsePFX(body []byte) (UserPFX, error) {
	var w userPFX
	if json.Unmarshal(body, &w) != nil {
		return UserPFX{}, errors.New("it is not a PFX certificate")
	}
	thumbprint, err := checkThumbprint(w.Thumbprint)
	if err != nil {
		return UserPFX{}, errors.New("it has no thumbprint")
	}
	p := UserPFX{
		UserPrincipalName: w.UserPrincipalName, Thumbprint: thumbprint,
		IntendedPurpose: PFXPurpose(w.IntendedPurpose), PaddingScheme: PFXPadding(w.PaddingScheme),
		Start: graphTime(w.Start), Expires: graphTime(w.Expires), ProviderName: w.ProviderName, KeyName: w.KeyName,
		EncryptedPFX: w.EncryptedPFX, EncryptedPassword: w.EncryptedPassword,
		Created: graphTime(w.Created), LastModified: graphTime(w.LastModified),
	}
	if known, err := p.IntendedPurpose.parse(); err == nil {
		p.IntendedPurpose = known
	}
	if known, _, err := p.PaddingScheme.parse(); err == nil {
		p.PaddingScheme = known
	}
	return p, nil
}
