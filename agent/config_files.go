package agent

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/webauth"
	"github.com/certconnector/certconnector/policymodule/static"
)

// CheckFiles reads every file that a resolved configuration names and reports
// all that is wrong, as configfile.Mistakes: what is missing, unreadable for
// this account, no PEM, or a key that is not the certificate's. It opens no
// journal, so that it may run beside the service.
func (c *Config) CheckFiles() error {
	var m mistakes
	from := c.Keys.Open(nil)
	defer from.Close() //nolint:errcheck // nothing hangs on it
	c.Keys.check(&m)
	for i, l := range c.Listeners {
		l.TLS.files().checkIfSet(from, fmt.Sprintf("listeners[%d].tls", i), &m)
		if l.ClientCA != "" {
			checkRoots(l.ClientCA, fmt.Sprintf("listeners[%d].client_ca", i), &m)
		}
	}
	for i, t := range c.Tenants {
		at := fmt.Sprintf("tenants[%d]", i)
		t.Credential.check(from, at+".credential", &m)
		if t.CAFile != "" {
			checkRoots(t.CAFile, at+".ca_file", &m)
		}
	}
	for i, a := range c.CAs {
		a.check(from, fmt.Sprintf("cas[%d]", i), &m)
	}
	for i, e := range c.Endpoints {
		at := fmt.Sprintf("endpoints[%d]", i)
		e.RA.Signing.check(from, at+".ra.signing", &m)
		if e.RA.Shape == ShapeSplit {
			e.RA.Encryption.check(from, at+".ra.encryption", &m)
		}
		e.RA.checkDecrypts(from, at+".ra", &m)
		e.Policy.check(from, at+".policy", &m)
		if e.GetCACert.Next != "" {
			checkRoots(e.GetCACert.Next, at+".get_ca_cert.next", &m)
		}
	}
	for i, s := range c.Jobs.Sources {
		s.check(from, fmt.Sprintf("jobs.sources[%d]", i), &m)
	}
	c.checkProxies(&m)
	for i, p := range c.Principals {
		if p.Password != nil {
			p.Password.checkPassword(fmt.Sprintf("principals[%d].password", i), &m)
		}
	}
	if _, err := secret.LoadSealer(c.Secrets.LocalKey); err != nil {
		m.Add("secrets.local_key", "%v", withInit(err))
	}
	if c.Journal.SQLite != nil {
		if err := secret.CheckPrivate(c.Journal.SQLite.Path); err != nil {
			m.Add("journal.sqlite.path", "%v", withInit(err))
		}
	}
	return m.Err()
}

// withInit names the way out where a first run is missing.
func withInit(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; certconnector init makes it", err)
	}
	return err
}

// check reads a pair as the service does: other accounts must not be able to
// read the key.
func (p *KeyPair) check(from *keys.Keys, at string, m *mistakes) {
	if _, err := from.Load(p.Key); err != nil {
		m.Add(at+".key", "%v", err)
		return
	}
	if _, err := identity.Load(from, identity.Files(*p)); err != nil {
		m.Add(at, "%v", err)
	}
}

// checkDecrypts has the key that opens messages do so, if it is in a device:
// not every device may.
func (r RA) checkDecrypts(from *keys.Keys, at string, m *mistakes) {
	pair, at := r.Encryption, at+".encryption"
	if r.Shape == ShapeCombined {
		pair, at = r.Signing, strings.TrimSuffix(at, "encryption")+"signing"
	}
	key, err := from.Load(pair.Key)
	if err != nil || keys.PlaceOf(key) == keys.File {
		return // check says so
	}
	if err := keys.CheckDecrypts(key); err != nil {
		m.Add(at+".key", "%v", err)
	}
}

// check reads what the service would sign in with. A managed certificate need
// not exist yet.
func (c Credential) check(from *keys.Keys, at string, m *mistakes) {
	switch {
	case c.Secret != nil:
		c.Secret.check(at+".secret", m)
	case c.TokenFile != "":
		if err := secret.CheckPrivate(c.TokenFile); err != nil {
			m.Add(at+".token_file", "%v", err)
		}
	case c.Managed == nil:
		(&KeyPair{Certificate: c.Certificate, Key: c.Key}).check(from, at, m)
	}
}

// check reads what a source of jobs names.
func (s JobSource) check(from *keys.Keys, at string, m *mistakes) {
	(&KeyPair{Certificate: s.Queue.Certificate, Key: s.Queue.Key}).check(from, at+".queue", m)
	checkRoots(s.Queue.CAFile, at+".queue.ca_file", m)
	for i, r := range s.Recipients {
		checkRoots(r.Certificate, fmt.Sprintf("%s.recipients[%d].certificate", at, i), m)
	}
	if s.Import == nil {
		return
	}
	if _, err := os.ReadFile(s.Import.PublicKey); err != nil {
		m.Add(at+".import.public_key", "%v", err)
	}
}

func (r SecretRef) check(at string, m *mistakes) {
	if _, err := r.Read(); err != nil {
		m.Add(at, "%v", err)
	}
}

func checkRoots(path, at string, m *mistakes) {
	b, err := os.ReadFile(path)
	if err != nil {
		m.Add(at, "%v", err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(b) {
		m.Add(at, "%q holds no certificate in PEM form", path)
	}
}

// check reads what a CA names.
func (a CA) check(from *keys.Keys, at string, m *mistakes) {
	if e := a.Embedded; e != nil {
		(&KeyPair{Certificate: e.Certificate, Key: e.Key}).check(from, at+".embedded", m)
	}
	if a.Chain != "" {
		if _, err := embedded.LoadChain(a.Chain); err != nil {
			m.Add(at+".chain", "%v", err)
		}
	}
	switch {
	case a.ADCS != nil:
		a.ADCS.Kerberos.check(at+".adcs.kerberos", m)
		a.ADCS.NTLM.check(at+".adcs.ntlm", m)
		a.ADCS.SSPI.check(at+".adcs.sspi", m)
	case a.Certsrv != nil:
		a.Certsrv.Kerberos.check(at+".certsrv.kerberos", m)
		a.Certsrv.NTLM.check(at+".certsrv.ntlm", m)
		a.Certsrv.SSPI.check(at+".certsrv.sspi", m)
		a.Certsrv.Basic.check(at+".certsrv.basic", m)
		a.Certsrv.ClientCertificate.checkIfSet(from, at+".certsrv.client_certificate", m)
		checkRootsIfSet(a.Certsrv.CAFile, at+".certsrv.ca_file", m)
	case a.WSTEP != nil:
		a.WSTEP.Kerberos.check(at+".wstep.kerberos", m)
		a.WSTEP.SSPI.check(at+".wstep.sspi", m)
		a.WSTEP.User.check(at+".wstep.user", m)
		a.WSTEP.ClientCertificate.checkIfSet(from, at+".wstep.client_certificate", m)
		checkRootsIfSet(a.WSTEP.CAFile, at+".wstep.ca_file", m)
	}
}

func (k *Kerberos) check(at string, m *mistakes) {
	switch {
	case k == nil:
	case k.Keytab != "":
		if err := secret.CheckPrivate(k.Keytab); err != nil {
			m.Add(at+".keytab", "%v", err)
		}
	case k.CCache != "":
		if err := secret.CheckPrivate(k.CCache); err != nil {
			m.Add(at+".ccache", "%v", err)
		}
	case k.Password != nil:
		k.Password.check(at+".password", m)
	}
}

// check says that this system has no SSPI.
func (s *SSPI) check(at string, m *mistakes) {
	if s == nil {
		return
	}
	if err := s.load().Check(); err != nil {
		m.Add(at, "%v", err)
	}
}

func (p *Password) check(at string, m *mistakes) {
	if p != nil {
		p.Password.check(at+".password", m)
	}
}

func (p *KeyPair) checkIfSet(from *keys.Keys, at string, m *mistakes) {
	if p != nil {
		p.check(from, at, m)
	}
}

func checkRootsIfSet(path, at string, m *mistakes) {
	if path != "" {
		checkRoots(path, at, m)
	}
}

// check reads what a policy names.
func (p Policy) check(from *keys.Keys, at string, m *mistakes) {
	switch {
	case p.Static != nil:
		challenge, err := p.Static.Challenge.Read()
		if err == nil {
			err = static.Check(challenge)
		}
		if err != nil {
			m.Add(at+".static.challenge", "%v", err)
		}
	case p.Token != nil:
		if p.Token.Signing != nil {
			p.Token.Signing.check(from, at+".token.signing", m)
		}
		for i := range p.Token.Recipients {
			p.Token.Recipients[i].check(from, fmt.Sprintf("%s.token.recipients[%d]", at, i), m)
		}
		for i, s := range p.Token.Trusted {
			checkRoots(s.Certificate, fmt.Sprintf("%s.token.trusted[%d].certificate", at, i), m)
		}
	case p.RegistrationPoint != nil:
		r := p.RegistrationPoint
		(&KeyPair{Certificate: r.Certificate, Key: r.Key}).check(from, at+".registration_point", m)
		if r.CAFile != "" {
			checkRoots(r.CAFile, at+".registration_point.ca_file", m)
		}
	}
}

// checkPassword reads a password and asks whether it can be guessed.
func (r SecretRef) checkPassword(at string, m *mistakes) {
	text, err := r.Read()
	if err == nil {
		err = webauth.CheckPassword(text)
	}
	if err != nil {
		m.Add(at, "%v", err)
	}
}
