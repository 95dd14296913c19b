package control

import (
	"context"
	"net/http"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/identity"
)

// Custodian shows and renews the connector's own certificates.
type Custodian interface {
	// Certificates is the inventory, what ends first at the top.
	Certificates(ctx context.Context) ([]identity.Item, error)
	// RenewCertificate renews what has a name of the inventory, due or not.
	// journal.ErrNotFound of a name that the service does not renew.
	RenewCertificate(ctx context.Context, name string) error
}

func (s *server) certificates(w http.ResponseWriter, r *http.Request) {
	list, err := s.svc.Certificates(r.Context())
	answer(w, append([]identity.Item{}, list...), err)
}

// renewal is the body of a renewal.
type renewal struct {
	Name string `json:"name"`
}

func (s *server) renew(w http.ResponseWriter, r *http.Request) {
	var b renewal
	if !read(w, r, &b) {
		return
	}
	err := s.svc.RenewCertificate(r.Context(), b.Name)
	s.audit(r, "own certificate renewed", err, zap.String("name", b.Name))
	answer(w, struct{}{}, err)
}

// Certificates asks for the inventory.
func (c *Client) Certificates(ctx context.Context) ([]identity.Item, error) {
	var list []identity.Item
	err := c.do(ctx, http.MethodGet, "/v1/certificates", nil, &list)
	return list, err
}

// RenewCertificate has one renewed now.
func (c *Client) RenewCertificate(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, "/v1/certificates/renew", renewal{name}, nil)
}
