package agent_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// A request that waits for a person is held by the Agent that took it. It is
// answered there, although the person speaks to the one that came after.
func TestReloadHeldRequestHearsOfTheNextConfiguration(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	own := *s.cfg.CAs[0].Embedded
	own.Profiles = []agent.Profile{own.Profiles[0]}
	own.Profiles[0].Approval = true
	s.cfg.CAs = []agent.CA{{Name: s.cfg.CAs[0].Name, Embedded: &own}}
	s.cfg.Limits.WriteTimeout = 20 * time.Minute
	s.cfg.Endpoints[0].AnswerWithin = 10 * time.Minute // no time ends what is held
	r := startReloadable(t, s)
	device := r.device("linux")
	device.HTTP = &http.Client{} // waits for as long as it takes
	sent, err := device.Prepare(t.Context(), scepclient.EnrollRequest{
		Key: testkeys.RSA2048(0), CSR: scepclient.CSR{Subject: pkix.Name{CommonName: "phone"}, Challenge: r.challenge()},
	})
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan *scepclient.Reply, 1)
	go func() {
		reply, err := device.Send(context.Background(), sent.Message)
		if err != nil {
			t.Errorf("the held request: %v", err)
		}
		answered <- reply
	}()
	id := r.parked()
	for range 3 {
		r.reload()
	}
	select {
	case reply := <-answered:
		t.Fatalf("the reload let the held request go: %+v", reply)
	default:
	}
	if err := r.svc.Agent().Approve(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	select {
	case reply := <-answered:
		if reply == nil || reply.Status != scep.Success {
			t.Errorf("got %+v", reply)
		}
	case <-time.After(patience):
		t.Error("the held request does not hear of the approval")
	}
	r.mustStop()
}

// parked waits for the request that a person decides about.
func (r *reloadable) parked() string {
	r.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		entries, err := r.svc.Agent().Requests(r.t.Context(), control.Filter{States: []string{"parked"}})
		if err != nil {
			r.t.Fatal(err)
		}
		if len(entries) == 1 {
			return entries[0].ID
		}
	}
	r.t.Fatal("no request was parked")
	return ""
}

// A stop does not wait for a request that an Agent holds which was replaced.
func TestReloadHeldRequestDoesNotHoldUpAStop(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	own := *s.cfg.CAs[0].Embedded
	own.Profiles = []agent.Profile{own.Profiles[0]}
	own.Profiles[0].Approval = true
	s.cfg.CAs = []agent.CA{{Name: s.cfg.CAs[0].Name, Embedded: &own}}
	s.cfg.Limits.WriteTimeout = 20 * time.Minute
	s.cfg.Endpoints[0].AnswerWithin = 10 * time.Minute // no time ends what is held
	r := startReloadable(t, s)
	answered := make(chan *scepclient.Reply, 1)
	go func() {
		device := r.device("linux")
		device.Quirks.Retries, device.HTTP = 0, &http.Client{}
		reply, err := device.Enroll(context.Background(), scepclient.EnrollRequest{
			Key: testkeys.RSA2048(0), CSR: scepclient.CSR{Subject: pkix.Name{CommonName: "phone"}, Challenge: r.challenge()},
		})
		if err != nil {
			t.Errorf("the held request: %v", err)
		}
		answered <- reply
	}()
	r.parked()
	r.reload()
	r.mustStop() // without an error: it was not cut off at the end of the grace
	if reply := <-answered; reply == nil || reply.Status != scep.Pending {
		t.Errorf("the held request got %+v", reply)
	}
}

// A device has read the RA's certificates, the operator replaces them and
// reloads, and then the device sends what it encrypted to the old ones.
func TestReloadOldRAKeyStillOpens(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	r := startReloadable(t, s)
	device := r.device("linux")
	prepare := func(key int) *scepclient.Transaction {
		sent, err := device.Prepare(t.Context(), scepclient.EnrollRequest{
			Key: testkeys.RSA2048(key), CSR: scepclient.CSR{Subject: pkix.Name{CommonName: "phone"}, Challenge: r.challenge()},
		})
		if err != nil {
			t.Fatal(err)
		}
		return sent
	}
	old := prepare(0)
	replaceRA(t, s.cfg)
	r.reload()
	r.reload()
	if now := prepare(1); now.Service.Recipient.Equal(old.Service.Recipient) {
		t.Fatal("the new certificate is not in use")
	}
	reply, err := device.Send(t.Context(), old.Message)
	if err != nil || reply.Status != scep.Success {
		t.Errorf("what was encrypted to the old certificate: %+v, %v", reply, err)
	}
	r.mustStop()
}

// replaceRA puts new pairs of the same CA where the old ones are.
func replaceRA(t *testing.T, cfg agent.Config) {
	t.Helper()
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		return block.Bytes
	}
	issuer := readCert(t, cfg.CAs[0].Embedded.Certificate)
	signer, err := x509.ParsePKCS8PrivateKey(read(cfg.CAs[0].Embedded.Key))
	if err != nil {
		t.Fatal(err)
	}
	for i, pair := range []agent.KeyPair{cfg.Endpoints[0].RA.Signing, cfg.Endpoints[0].RA.Encryption} {
		key := testkeys.RSA2048(6 + i)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(4711 + i)), Subject: pkix.Name{CommonName: "new RA"},
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().AddDate(1, 0, 0),
			KeyUsage: []x509.KeyUsage{x509.KeyUsageDigitalSignature, x509.KeyUsageKeyEncipherment}[i], BasicConstraintsValid: true,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for path, block := range map[string]*pem.Block{
			pair.Certificate: {Type: "CERTIFICATE", Bytes: der}, pair.Key: {Type: "PRIVATE KEY", Bytes: pkcs8},
		} {
			if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Counters never fall, whatever is replaced; what is limited stays limited.
func TestReloadCountersAndLimitsGoOn(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	status := s.withStatus()
	r := startReloadable(t, s)
	const series = `certconnector_scep_replies_total{endpoint="devices",message_type="PKCSReq",result="SUCCESS"}`
	for n := range 4 {
		if err := r.enrol(r.device("linux"), n, "phone.example"); err != nil {
			t.Fatal(err)
		}
		r.reload()
		_, text := page(t, status+"/metrics")
		wantValue(t, text, series, is(float64(n+1)))
		wantValue(t, text, `certconnector_ca_calls_total{ca="embedded",call="issue",result="ok"}`, is(float64(n+1)))
		wantValue(t, text, "certconnector_ready", is(1))
	}
	if _, text := page(t, status+"/readyz?verbose"); !strings.Contains(text, "last CA embedded issue: 20") {
		t.Errorf("when the CA was last heard of is forgotten:\n%s", text)
	}
	began, err := r.svc.Agent().Status(t.Context())
	if err != nil || time.Since(began.StartedAt) < 0 || began.Reload == nil {
		t.Errorf("%+v, %v", began, err)
	}
	refusal := &scepclient.Client{URL: r.url, Quirks: r.device("linux").Quirks, DelayScale: 0.001}
	wrong, err := refusal.Enroll(t.Context(), scepclient.EnrollRequest{
		Key: testkeys.RSA2048(5), CSR: scepclient.CSR{Subject: pkix.Name{CommonName: "thief"}, Challenge: "wrong"},
	})
	if err != nil || wrong.Status != scep.Failure {
		t.Fatalf("%+v, %v", wrong, err)
	}
	r.reload()
	if events, err := r.svc.Agent().Trace(t.Context(), ""); err != nil || events[0].Rule != "challenge_wrong" && events[0].State != "refused" {
		t.Errorf("the refusal is forgotten: %+v, %v", events, err)
	}
	r.mustStop()
}

// Nothing of an Agent is left when it was replaced and its requests are over.
func TestReloadHundredTimesLeavesNothing(t *testing.T) {
	n := 100
	if testing.Short() {
		n = 40
	}
	s, cloud := installIntune(t)
	var revocation agent.Revocation
	revocation.SetDefaults()
	revocation.Interval = time.Second
	s.cfg.Tenants[0].Revocation = &revocation
	r := startReloadable(t, s)
	if reply := s.enrolIntune(cloud, "windows", testkeys.RSA2048(0)); reply.Status != scep.Success {
		t.Fatal(reply.Status)
	}
	for range 3 { // whatever is made once
		r.reload()
	}
	goroutines, files := settled(t)
	began, asked := time.Now(), cloud.Count(intunetest.Download)
	for i := range n {
		r.edit(func(c *agent.Config) { c.Endpoints[0].AnswerWithin = time.Duration(20+i%2) * time.Second })
		r.reload()
	}
	// Each new poller has the lead of the one before, and its pause.
	got := cloud.Count(intunetest.Download) - asked
	if most := int(time.Since(began)/revocation.Interval) + 2; got > most {
		t.Errorf("the tenant was asked %d times in %v", got, time.Since(began))
	}
	if reply := s.enrolIntune(cloud, "ios", testkeys.RSA2048(1)); reply.Status != scep.Success {
		t.Fatal(reply.Status)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	moreGoroutines, moreFiles := settled(t)
	for deadline := time.Now().Add(patience); (moreGoroutines > goroutines+n/2 || moreFiles > files+5) && time.Now().Before(deadline); {
		moreGoroutines, moreFiles = settled(t) // the last ones may still be ending
	}
	if moreGoroutines > goroutines+n/2 || moreFiles > files+5 {
		t.Errorf("%d goroutines became %d, %d open files became %d", goroutines, moreGoroutines, files, moreFiles)
	}
	if c := cloud.Contradictions(); len(c) > 0 {
		t.Errorf("contradictions: %+v", c)
	}
	r.mustStop()
}

// settled counts goroutines and open files once their number does not fall any more.
func settled(t *testing.T) (goroutines, files int) {
	t.Helper()
	goroutines = runtime.NumGoroutine()
	for range 50 {
		time.Sleep(20 * time.Millisecond)
		if now := runtime.NumGoroutine(); now < goroutines {
			goroutines = now
		}
	}
	list, err := os.ReadDir("/proc/" + strconv.Itoa(os.Getpid()) + "/fd")
	if err != nil && runtime.GOOS == "linux" {
		t.Fatal(err)
	}
	return goroutines, len(list)
}

// A stop may come at any moment of a reload: everything ends, in time.
func TestReloadRacesAStop(t *testing.T) {
	for i := range 8 {
		r := startReloadable(t, install(t, firstrun.Options{Policy: firstrun.PolicyStatic}))
		began := make(chan bool)
		over := make(chan bool)
		go func() {
			defer close(over)
			close(began)
			for {
				if _, err := r.svc.Reload(context.Background()); err != nil {
					return
				}
			}
		}()
		<-began
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		at := time.Now()
		r.mustStop()
		if took := time.Since(at); took > patience/2 { // half of the grace
			t.Errorf("the stop took %v", took)
		}
		<-over
	}
}

// Relying parties ask at any time: a new Agent has its lists and OCSP signers
// before it is asked.
func TestReloadLeavesNoGapInRevocationStatus(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	address := freePort(t)
	s.cfg.Listeners = append(slices.Clone(s.cfg.Listeners), agent.Listener{
		Name: "relying", Address: address, Faces: []string{agent.FaceCRL, agent.FaceOCSP}, PlainHTTP: true,
	})
	r := startReloadable(t, s)
	list := "http://" + address + "/crl/" + s.cfg.CAs[0].Name + ".crl"
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if code, _ := page(t, list); code == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no revocation list is made")
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	asked, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			resp, err := http.Get(list)
			if err != nil {
				t.Error(err)
				return
			}
			if resp.StatusCode != http.StatusOK {
				t.Errorf("HTTP %d", resp.StatusCode)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			select {
			case asked <- struct{}{}:
			default:
			}
		}
	}()
	question := func() {
		select {
		case <-asked:
		case <-over:
		}
	}
	for range 8 { // with questions before each and after it, and most during it
		question()
		r.reload()
	}
	question()
	stop()
	<-over
	r.mustStop()
}
