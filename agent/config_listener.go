package agent

// The faces that a listener of this version can show.
const (
	FaceSCEP   = "scep"   // the endpoints, for devices
	FaceStatus = "status" // health, for operators

	FaceCRL  = "crl"  // revocation lists and certificates of embedded CAs
	FaceOCSP = "ocsp" // whether a certificate of an embedded CA is revoked

	FaceChallenges = "challenges" // where MDM servers have challenges made
	FaceCRP        = "crp"        // the registration point, for other front ends
)

// Listener is one address that the service answers on.
type Listener struct {
	// Name, for logs and for other keys to refer to.
	Name string `yaml:"name"`
	// Address to listen on, as "host:port" or ":443" for all addresses.
	Address string `yaml:"address"`
	// What is shown here: scep (the endpoints), status (/livez, /readyz and
	// /metrics; keep it on a loopback or management address), challenges (where
	// MDM servers have challenges made), crp (the registration point for other
	// front ends), crl (revocation lists and certificates of embedded CAs) or
	// ocsp (their OCSP responder). Relying parties ask the last two by plain HTTP.
	Faces []string `yaml:"faces"`
	// Certificate of this listener.
	TLS *ListenerTLS `yaml:"tls"`
	// PEM file with the roots of client certificates. With it the listener asks
	// for one, and so cannot show scep: devices would show a prompt. Needed for
	// crp, and for principals with a certificate. Default empty.
	ClientCA string `yaml:"client_ca" path:"true"`
	// Unsafe: serve without TLS. For a proxy on the same host that ends TLS, or
	// for a laboratory: challenges are inside the encrypted message, but an
	// attacker in the path can weaken the algorithms that devices choose.
	// Default false.
	PlainHTTP bool `yaml:"plain_http"`
	// Addresses and networks of reverse proxies in front, as 127.0.0.1 or
	// 10.1.2.0/24. A request from there counts as one of the address that the
	// proxy names in forwarded_header: for limits per source, logs and the audit.
	// From anywhere else such headers mean nothing. Default none.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// The one header in which they name the device: X-Forwarded-For or Forwarded
	// (RFC 7239). The other is whatever the device sent. Default X-Forwarded-For.
	ForwardedHeader string `yaml:"forwarded_header"`
	// Header in which trusted proxies hand on the client certificate that was
	// shown to them, as URL-encoded PEM, such as X-SSL-Client-Cert with nginx's
	// $ssl_client_escaped_cert. It is verified with client_ca as if it had been
	// shown here, and taken off requests from anywhere else. The proxy must replace
	// the header in every request. Default empty: none is believed.
	ClientCertificateHeader string `yaml:"client_certificate_header"`
}

// Shows reports whether the listener has a face.
func (l Listener) Shows(face string) bool {
	for _, f := range l.Faces {
		if f == face {
			return true
		}
	}
	return false
}

// KeyPair is a certificate and its private key.
type KeyPair struct {
	// PEM file with the certificate, and after it the rest of its chain where
	// there is one.
	Certificate string `yaml:"certificate" path:"true"`
	// PEM file with the private key (PKCS #8, PKCS #1 or SEC 1; TSS2 for one in a
	// TPM), which only the service's account should be able to read; or a key in
	// a device, as pkcs11:token=ra;object=signing.
	Key string `yaml:"key" path:"key"`
}

// ListenerTLS is a listener's certificate: files that a person or another
// program replaces (a change is noticed), or one that a CA of the configuration
// issues and the service renews.
type ListenerTLS struct {
	// PEM file with the certificate, and after it the rest of its chain.
	Certificate string `yaml:"certificate" path:"true"`
	// PEM file with the private key (PKCS #8, PKCS #1 or SEC 1; TSS2 for one in a
	// TPM), which only the service's account should be able to read; or a key in
	// a device, as pkcs11:token=ra;object=signing.
	Key string `yaml:"key" path:"key"`
	// Name of an embedded CA that issues the certificate, instead of files.
	// Devices must trust that CA for servers, which most do not by default.
	IssuedBy string `yaml:"issued_by"`
	// DNS names and IP addresses of an issued certificate.
	Names []string `yaml:"names"`
}

func (t *ListenerTLS) empty() bool {
	return t == nil || t.Certificate == "" && t.Key == "" && t.IssuedBy == "" && len(t.Names) == 0
}

// files are the certificate and key on disk, nil of an issued one.
func (t *ListenerTLS) files() *KeyPair {
	if t == nil || t.IssuedBy != "" {
		return nil
	}
	return &KeyPair{Certificate: t.Certificate, Key: t.Key}
}

func (p *KeyPair) empty() bool { return p == nil || *p == KeyPair{} }
