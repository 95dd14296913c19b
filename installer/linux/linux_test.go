package linux_test

import (
	"os"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/installer/linux"
)

func packaged() linux.Paths {
	return linux.Paths{Program: linux.Program, Config: linux.Config, StateDir: linux.StateDir, Ports: []string{"443"}}
}

func TestUnitsOfThePackagesAreTheFiles(t *testing.T) {
	for file, text := range map[string]string{linux.ServiceUnit: packaged().Service(), linux.SocketUnit: packaged().Socket()} {
		if b, err := os.ReadFile(file); err != nil || string(b) != text {
			t.Errorf("%s: %v; the text differs", file, err)
		}
	}
}

func TestUnitsHaveThePathsOfTheHost(t *testing.T) {
	p := linux.Paths{Program: "/usr/local/bin/certconnector", Config: "/opt/cc/cc.yaml", StateDir: "/srv/cc", Ports: []string{"80", "443"}}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	service, socket := p.Service(), p.Socket()
	for _, want := range []string{
		"ExecStart=/usr/local/bin/certconnector run --config /opt/cc/cc.yaml\n", "ConditionPathExists=/opt/cc/cc.yaml\n",
		"EnvironmentFile=-/opt/cc/environment\n", "\nReadWritePaths=/srv/cc\n", "ProtectSystem=strict\n",
	} {
		if !strings.Contains(service, want) {
			t.Errorf("the service lacks %q", want)
		}
	}
	for _, foreign := range []string{"/usr/bin/certconnector", "/etc/certconnector", "StateDirectory", "ConfigurationDirectory"} {
		if strings.Contains(service+socket, foreign) {
			t.Errorf("a unit still has %q", foreign)
		}
	}
	if !strings.Contains(socket, "\nListenStream=80\nListenStream=443\n") || !strings.Contains(socket, "ConditionPathExists=/opt/cc/cc.yaml\n") {
		t.Errorf("the socket: %s", socket)
	}
}

// TestASocketIsOfTheAddressThatIsConfigured: a port that was meant for this
// computer alone is not opened to the network.
func TestASocketIsOfTheAddressThatIsConfigured(t *testing.T) {
	for _, row := range []struct {
		ports []string
		want  string
	}{
		{[]string{"443"}, "ListenStream=443\n"},
		{[]string{"0.0.0.0:443", "127.0.0.1:80"}, "ListenStream=0.0.0.0:443\nListenStream=127.0.0.1:80\n"},
		{[]string{"[::]:443", "[::1]:80"}, "ListenStream=[::]:443\nListenStream=[::1]:80\n"},
		{[]string{"192.0.2.1:443"}, "ListenStream=192.0.2.1:443\nFreeBind=yes\n"}, // the unit may start before the network
		{[]string{"443", "[2001:db8::1]:80"}, "ListenStream=443\nListenStream=[2001:db8::1]:80\nFreeBind=yes\n"},
	} {
		p := packaged()
		p.Ports = row.ports
		if err := p.Check(); err != nil {
			t.Errorf("%q: %v", row.ports, err)
		}
		_, got, _ := strings.Cut(p.Socket(), "the new one.\n")
		if got, _, _ = strings.Cut(got, "#"); got != row.want {
			t.Errorf("%q: the socket has\n%s", row.ports, got)
		}
	}
}

func TestPathsThatAUnitCannotHave(t *testing.T) {
	for name, change := range map[string]func(*linux.Paths){
		"relative":              func(p *linux.Paths) { p.Config = "cc.yaml" },
		"a space":               func(p *linux.Paths) { p.Config = "/etc/my connector/cc.yaml" },
		"a specifier":           func(p *linux.Paths) { p.StateDir = "/var/lib/%h" },
		"a new line":            func(p *linux.Paths) { p.StateDir = "/var/lib/x\nUser=root" },
		"hidden by ProtectHome": func(p *linux.Paths) { p.Program = "/home/me/certconnector" },
		"a name to listen on":   func(p *linux.Paths) { p.Ports = []string{"scep.corp.example:443"} },
		"a zone to listen on":   func(p *linux.Paths) { p.Ports = []string{"[fe80::1%eth0]:443"} },
		"no port":               func(p *linux.Paths) { p.Ports = []string{"443\nAccept=yes"} },
		"hidden by PrivateTmp":  func(p *linux.Paths) { p.Program = "/tmp/certconnector" },
	} {
		p := packaged()
		change(&p)
		if err := p.Check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
