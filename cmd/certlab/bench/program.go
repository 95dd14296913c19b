package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/certconnector/certconnector/intune/intunetest"
)

// program is a certconnector in a folder of its own, as a process.
type program struct {
	name, path, dir string
	url, address    string
	challenge       string           // file
	cloud           *intunetest.Info // nil: static policy
	clouds          *exec.Cmd
	cmd             *exec.Cmd
}

// install makes a folder with "certconnector init", and a cloud if need be.
func (o Options) install(ctx context.Context, name, caKey string, intune bool) (*program, error) {
	dir, err := os.MkdirTemp(o.Dir, "connector-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &program{name: name, path: o.Program, dir: filepath.Join(dir, "state"), address: l.Addr().String()}
	if err := l.Close(); err != nil {
		return nil, err
	}
	p.url = "http://" + p.address + "/certsrv/mscep/mscep.dll"
	p.challenge = filepath.Join(p.dir, "challenge")
	args := []string{"init", "--dir", p.dir, "--hostname", "127.0.0.1", "--listen", p.address, "--plain-http", "--ca-key", caKey, "--ra-key", "rsa2048"}
	if intune {
		if err := p.startCloud(ctx, o.Self, dir); err != nil {
			return nil, err
		}
		args = append(args, "--policy", "intune", "--tenant", p.cloud.Tenant, "--client-id", p.cloud.ClientID, "--cloud", "custom",
			"--authority-url", p.cloud.Authority, "--graph-url", p.cloud.Graph, "--resource-url", p.cloud.Resource, "--cloud-ca-file", filepath.Join(dir, "cloud.pem"))
	} else {
		args = append(args, "--policy", "static")
	}
	if out, err := exec.CommandContext(ctx, o.Program, args...).CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("init: %w\n%s", err, out), p.stop())
	}
	return p, nil
}

// restart stops the program, starts it on the server's core and says how many
// milliseconds it took to answer a connection.
func (p *program) restart(ctx context.Context) (float64, error) {
	if err := p.kill(); err != nil {
		return 0, err
	}
	log, err := os.OpenFile(filepath.Join(filepath.Dir(p.dir), "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd := pinned(ctx, serverCore, p.path, "run", "--config", filepath.Join(p.dir, "certconnector.yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	p.cmd = cmd
	for time.Since(began) < 30*time.Second {
		c, err := net.Dial("tcp", p.address)
		if err == nil {
			ms := float64(time.Since(began)) / float64(time.Millisecond)
			return ms, c.Close()
		}
		time.Sleep(time.Millisecond)
	}
	return 0, fmt.Errorf("%s did not start within 30 s; its log is %s", p.name, log.Name())
}

func (p *program) pid() int { return p.cmd.Process.Pid }

// kill ends the program by its pid, as a service manager does.
func (p *program) kill() error {
	if p.cmd == nil {
		return nil
	}
	cmd := p.cmd
	p.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return cmd.Wait()
}

func (p *program) stop() error {
	err := p.kill()
	if p.clouds != nil {
		err = errors.Join(err, p.clouds.Process.Signal(syscall.SIGTERM), ignoreExit(p.clouds.Wait()))
	}
	return err
}

func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// startCloud starts the simulator on the client's core and waits for its word.
func (p *program) startCloud(ctx context.Context, self, dir string) error {
	info := filepath.Join(dir, "cloud.json")
	p.clouds = pinned(ctx, clientCore, self, "cloud", "--info-file", info, "--root-file", filepath.Join(dir, "cloud.pem"),
		"--client-certificate", filepath.Join(p.dir, "entra", "entra.crt.pem"))
	p.clouds.Stderr = os.Stderr
	if err := p.clouds.Start(); err != nil {
		p.clouds = nil
		return err
	}
	for range 300 {
		b, err := os.ReadFile(info)
		if err == nil && strings.HasSuffix(strings.TrimSpace(string(b)), "}") {
			p.cloud = new(intunetest.Info)
			return json.Unmarshal(b, p.cloud)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.Join(errors.New("the simulated cloud did not start"), p.stop())
}
