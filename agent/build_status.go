package agent

import (
	"fmt"
	"path/filepath"

	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/secret"
)

// buildRevocationStatus builds what relying parties ask: the lists and the OCSP
// responder of the embedded CAs, where a listener shows them. Both make what
// they serve beforehand, so each is also a task.
func (a *Agent) buildRevocationStatus(sealer *secret.Sealer) (err error) {
	var own []*embedded.CA
	unknown := embedded.AnswerUnknown
	for _, c := range a.cfg.CAs {
		if issuer, ok := a.cas[c.Name].Authority.(*embedded.CA); ok {
			own = append(own, issuer)
			if c.Embedded.OCSPUnknown == "revoked" {
				unknown = embedded.AnswerRevoked
			}
		}
	}
	if a.cfg.shows(FaceCRL) {
		if a.distribution, err = embedded.NewDistribution(embedded.DistributionConfig{CAs: own, Log: a.log.Named("crl")}); err != nil {
			return fmt.Errorf("face crl: %w", err)
		}
		a.more = append(a.more, task{"revocation lists", a.distribution.Run})
	}
	if a.cfg.shows(FaceOCSP) {
		a.responder, err = embedded.NewResponder(embedded.ResponderConfig{
			CAs: own, Store: embedded.NewSignerFolder(filepath.Join(a.cfg.StateDir, "ocsp"), sealer), Unknown: unknown, Log: a.log.Named("ocsp"),
		})
		if err != nil {
			return fmt.Errorf("face ocsp: %w", err)
		}
		a.more = append(a.more, task{"OCSP responder", a.responder.Run})
	}
	return nil
}
