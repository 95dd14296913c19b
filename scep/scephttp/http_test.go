package scephttp_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// ask sends one request past any server, with the target as it stands.
func ask(h http.Handler, method, target string, body []byte, header ...string) *http.Response {
	r := httptest.NewRequest(method, "http://scep.example.test/", bytes.NewReader(body))
	path, query, _ := strings.Cut(target, "?")
	r.RequestURI, r.URL.Path, r.URL.RawQuery = target, path, query
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func read(t testing.TB, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAnswers is the table of operations, methods and errors.
func TestAnswers(t *testing.T) {
	a := newAuthority(t, false)
	ndes := a.endpoint()
	plain := a.endpoint()
	plain.Name, plain.Path, plain.NDESCompatible, plain.BareGET = "plain", "/scep/plain", false, scephttp.Forbidden
	starting := a.endpoint()
	starting.Name, starting.Path, starting.RA = "starting", "/scep/starting", func() *scep.RA { return nil }
	broken := a.endpoint()
	broken.Name, broken.Path, broken.Ready = "broken", "/scep/broken", func() error { return errDown }
	h, _ := handler(t, scephttp.Limits{}, ndes, plain, starting, broken)

	const (
		caps, raSet, html, text, pki = "text/plain", "application/x-x509-ca-ra-cert", "text/html", "text/plain", "application/x-pki-message"
		dll                          = "/certsrv/mscep/mscep.dll"
	)
	garbage := "?operation=PKIOperation&message="
	for name, row := range map[string]struct {
		method, target string
		body           string
		status         int
		contentType    string
	}{
		"capabilities":                     {"GET", dll + "?operation=GetCACaps", "", 200, caps},
		"capabilities, any case and order": {"GET", dll + "?MESSAGE=x&Operation=getcacaps", "", 200, caps},
		"capabilities by POST":             {"POST", dll + "?operation=GetCACaps", "", 200, caps},
		"escaped operation":                {"GET", dll + "?operation=Get%43ACaps", "", 200, caps},
		"certificates":                     {"GET", dll + "?operation=GetCACert", "", 200, raSet},
		"certificates, unknown identifier": {"GET", dll + "?operation=GetCACert&message=SCEP%20Authority", "", 200, raSet},
		"certificates, identifier *":       {"GET", dll + "?operation=GetCACert&message=*", "", 200, raSet},
		"GetCACerts of Microsoft's script": {"GET", dll + "?operation=GetCACerts&message=test", "", 200, raSet},
		"GetCACertChain of old drafts":     {"GET", dll + "?operation=GetCACertChain", "", 200, raSet},
		"no next certificate":              {"GET", dll + "?operation=GetNextCACert", "", 404, text},
		"Windows' tail":                    {"GET", dll + "/pkiclient.exe?operation=GetCACaps", "", 200, caps},
		"folder":                           {"GET", "/certsrv/mscep?operation=GetCACaps&message=test", "", 200, caps},
		"folder with slash":                {"GET", "/certsrv/mscep/?operation=GetCACaps", "", 200, caps},
		"mixed case":                       {"GET", "/CertSrv/MSCEP/mscep.DLL/pkiclient.exe?operation=GetCACaps", "", 200, caps},
		"deeper":                           {"GET", "/certsrv/mscep/any/thing?operation=GetCACaps", "", 200, caps},
		"doubled slash":                    {"GET", "//certsrv//mscep/mscep.dll?operation=GetCACaps", "", 200, caps},
		"other path, tail":                 {"GET", "/scep/plain/pkiclient.exe?operation=GetCACaps", "", 200, caps},
		"administration is another path":   {"GET", "/certsrv/mscep_admin/", "", 404, text},
		"name that only begins alike":      {"GET", "/scep/plainer?operation=GetCACaps", "", 404, text},
		"dot segments":                     {"GET", "/scep/other/../plain?operation=GetCACaps", "", 404, text},
		"root":                             {"GET", "/", "", 404, text},
		"bare GET as NDES":                 {"GET", dll, "", 200, html},
		"bare GET, empty operation":        {"GET", dll + "?operation=", "", 200, html},
		"bare GET behind Intune":           {"GET", "/scep/plain", "", 403, html},
		"bare GET, RA not ready":           {"GET", "/scep/starting", "", 503, text},
		"bare GET, not able to enrol":      {"GET", "/scep/broken", "", 503, text},
		"capabilities, RA not ready":       {"GET", "/scep/starting?operation=GetCACaps", "", 503, text},
		"certificates though not able":     {"GET", "/scep/broken?operation=GetCACert", "", 200, raSet},
		"message, RA not ready":            {"POST", "/scep/starting?operation=PKIOperation", "0", 503, text},
		"PUT":                              {"PUT", dll + "?operation=PKIOperation", "x", 405, text},
		"OPTIONS":                          {"OPTIONS", dll, "", 405, text},
		"bare POST":                        {"POST", dll, "x", 400, text},
		"unknown operation as NDES":        {"GET", dll + "?operation=Nonsense", "", 200, html},
		"unknown operation":                {"GET", "/scep/plain?operation=Nonsense", "", 400, text},
		"unknown operation by POST":        {"POST", dll + "?operation=Nonsense", "x", 400, text},
		"31 KB of text as NDES":            {"GET", dll + garbage + strings.Repeat("A", 31000), "", 200, html},
		"not base64 as NDES":               {"GET", dll + garbage + "!!!!", "", 200, html},
		"no message as NDES":               {"GET", dll + "?operation=PKIOperation", "", 200, html},
		"text":                             {"GET", "/scep/plain" + garbage + "AAAA", "", 400, text},
		"not base64":                       {"GET", "/scep/plain" + garbage + "!!!!", "", 400, text},
		"text by POST":                     {"POST", dll + "?operation=PKIOperation", "hello", 400, text},
		"empty POST":                       {"POST", dll + "?operation=PKIOperation", "", 400, text},
		"cut off DER":                      {"POST", dll + "?operation=PKIOperation", "\x30\x82\x10\x00\x06", 400, text},
		"URL of 65534 octets":              {"GET", dll + garbage + strings.Repeat("A", 65534-len(dll+garbage)), "", 200, html},
		"URL of 65535 octets":              {"GET", dll + garbage + strings.Repeat("A", 65535-len(dll+garbage)), "", 414, text},
		"2 MiB":                            {"POST", dll + "?operation=PKIOperation", strings.Repeat("0", 2<<20), 400, text},
		"more than 2 MiB":                  {"POST", dll + "?operation=PKIOperation", strings.Repeat("0", 2<<20+1), 413, text},
		"HEAD of capabilities":             {"HEAD", dll + "?operation=GetCACaps", "", 200, caps},
		"HEAD of the bare URL":             {"HEAD", "/scep/plain", "", 403, html},
		"HEAD of an undecodable message":   {"HEAD", "/scep/plain" + garbage + "!!!!", "", 400, text},
		"HEAD of something that decodes":   {"HEAD", "/scep/plain" + garbage + "MAAA", "", 200, pki},
	} {
		t.Run(name, func(t *testing.T) {
			r := ask(h, row.method, row.target, []byte(row.body))
			body := read(t, r)
			if r.StatusCode != row.status || r.Header.Get("Content-Type") != row.contentType {
				t.Errorf("status %d, Content-Type %q; want %d, %q", r.StatusCode, r.Header.Get("Content-Type"), row.status, row.contentType)
			}
			if row.method != "HEAD" && r.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
				t.Errorf("Content-Length %s of %d octets", r.Header.Get("Content-Length"), len(body))
			}
			if row.method == "HEAD" && len(body) > 0 {
				t.Error("HEAD has a body")
			}
			if r.Header.Get("Cache-Control") != "no-store" {
				t.Error("the answer may be cached")
			}
			if (r.StatusCode == 503) != (r.Header.Get("Retry-After") == "60") {
				t.Errorf("status %d with Retry-After %q", r.StatusCode, r.Header.Get("Retry-After"))
			}
			if (r.StatusCode == 405) != (r.Header.Get("Allow") == "GET, POST, HEAD") {
				t.Errorf("status %d with Allow %q", r.StatusCode, r.Header.Get("Allow"))
			}
		})
	}
	if len(a.asked) != 0 {
		t.Errorf("%d requests reached the enroller", len(a.asked))
	}
}

// TestMessageForms sends one message in every form a device may give it.
func TestMessageForms(t *testing.T) {
	a := newAuthority(t, false)
	h, w := handler(t, scephttp.Limits{}, a.endpoint())
	long := a.message(t, scepclient.Quirks{}, "open sesame"+strings.Repeat("x", 29000)).Raw // refused, but read
	der := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	ber := a.message(t, scepclient.Quirks{Encoding: scepclient.BER}, "open sesame").Raw
	std := base64.StdEncoding.EncodeToString(der)
	get := func(value string) []string { return []string{"GET", path + "?operation=PKIOperation&message=" + value} }
	escaped := scepclient.Escape(der, scepclient.EscapeAll)
	lines := func(sep string) string {
		var b strings.Builder
		for i := 0; i < len(std); i += 64 {
			b.WriteString(std[i:min(i+64, len(std))] + sep)
		}
		return b.String()
	}
	post := path + "?operation=PKIOperation"
	for name, row := range map[string][]string{ // method, target, body, headers…
		"all escaped":               {"GET", get(escaped)[1]},
		"only padding escaped":      get(scepclient.Escape(der, scepclient.EscapePadded)),
		"nothing escaped":           get(std),
		"escaped twice":             get(strings.ReplaceAll(escaped, "%", "%25")),
		"space for plus":            get(strings.ReplaceAll(std, "+", "%20")),
		"no padding":                get(strings.TrimRight(std, "=")),
		"URL-safe":                  get(base64.URLEncoding.EncodeToString(der)),
		"URL-safe without padding":  get(base64.RawURLEncoding.EncodeToString(der)),
		"lines ending in %0A":       get(lines("%0A")),
		"lines ending in %0D%0A":    get(lines("%0d%0a")),
		"tabs":                      get(lines("%09")),
		"message first":             {"GET", path + "?message=" + std + "&operation=PKIOperation"},
		"BER":                       get(scepclient.Escape(ber, scepclient.EscapeNone)),
		"POST":                      {"POST", post, string(der), "Content-Type", "application/x-pki-message"},
		"POST of BER":               {"POST", post, string(ber)},
		"POST without Content-Type": {"POST", post, string(der)},
		"POST as a form":            {"POST", post, string(der), "Content-Type", "application/x-www-form-urlencoded"},
		"POST as multipart":         {"POST", post, string(der), "Content-Type", "multipart/form-data; boundary=x"},
		"POST of base64":            {"POST", post, std, "Content-Type", "text/plain"},
		"POST of base64 with lines": {"POST", post, lines("\r\n")},
		"POST to the folder":        {"POST", "/CertSrv/mscep/?OPERATION=pkioperation", string(der)},
		"GET of 40 KB":              get(scepclient.Escape(long, scepclient.EscapeAll)),
	} {
		t.Run(name, func(t *testing.T) {
			row = append(row, "")
			if name == "GET of 40 KB" && len(row[1]) < 40000 {
				t.Fatalf("the URL has only %d octets", len(row[1]))
			}
			var header []string
			if len(row) > 3 {
				header = row[3 : len(row)-1]
			}
			body := row[2]
			if row[0] == "GET" {
				body = ""
			}
			r := ask(h, row[0], row[1], []byte(body), header...)
			if r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/x-pki-message" {
				t.Fatalf("status %d, Content-Type %q: %s", r.StatusCode, r.Header.Get("Content-Type"), w.last(t).Limited)
			}
			want := scep.Success
			if name == "GET of 40 KB" {
				want = scep.Failure
			}
			if e := w.last(t); e.Status != want || !e.Replied || e.MessageType != scep.PKCSReq {
				t.Errorf("observed %+v", e)
			}
		})
	}
}

// TestNew refuses endpoints that cannot work and names all mistakes.
func TestNew(t *testing.T) {
	a := newAuthority(t, false)
	with := func(name, path string) scephttp.Endpoint {
		e := a.endpoint()
		e.Name, e.Path = name, path
		return e
	}
	for name, row := range map[string]struct {
		endpoints []scephttp.Endpoint
		want      []string
	}{
		"same path in another case": {[]scephttp.Endpoint{with("a", "/scep/x"), with("b", "/SCEP/X/")}, []string{`"b"`, `"a"`}},
		"folder of mscep.dll":       {[]scephttp.Endpoint{with("a", "/certsrv/mscep/mscep.dll"), with("b", "/certsrv/mscep")}, []string{"/certsrv/mscep"}},
		"same name":                 {[]scephttp.Endpoint{with("a", "/x"), with("a", "/y")}, []string{"same name"}},
		"two mistakes":              {[]scephttp.Endpoint{with("", "/x"), with("b", "relative")}, []string{"no name", "relative"}},
		"dot segments":              {[]scephttp.Endpoint{with("a", "/x/../y")}, []string{"/x/../y"}},
		"no enroller":               {[]scephttp.Endpoint{{Name: "a", Path: "/x"}}, []string{"needs an enroller"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := scephttp.New(row.endpoints, scephttp.Limits{}, nil, nil)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not mention %q", err, want)
				}
			}
		})
	}
}

// TestLongestPathWins lets one endpoint live below another.
func TestLongestPathWins(t *testing.T) {
	a := newAuthority(t, false)
	outer, inner := a.endpoint(), a.endpoint()
	outer.Name, outer.Path = "outer", "/scep"
	inner.Name, inner.Path = "inner", "/scep/jamf"
	h, w := handler(t, scephttp.Limits{}, outer, inner)
	for target, want := range map[string]string{
		"/scep": "outer", "/scep/pkiclient.exe": "outer", "/scep/jamf": "inner", "/SCEP/Jamf/pkiclient.exe": "inner", "/scep/jamfy": "outer",
	} {
		ask(h, "GET", target+"?operation=GetCACaps", nil)
		if got := w.last(t).Endpoint; got != want {
			t.Errorf("%s is served by %q, want %q", target, got, want)
		}
		if !h.Serves(target) {
			t.Errorf("%s is not served", target)
		}
	}
	if h.Serves("/metrics") {
		t.Error("a path of somebody else is claimed")
	}
}
