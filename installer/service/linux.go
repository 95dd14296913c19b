//go:build unix

package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/certconnector/certconnector/installer/linux"
	"github.com/certconnector/certconnector/installer/steps"
)

// unitDir is where an administrator's units are; those of packages are in
// packageUnitDirs.
const unitDir = "/etc/systemd/system"

var packageUnitDirs = []string{"/usr/lib/systemd/system", "/lib/systemd/system"}

// mark is the first line of units that were written here.
const mark = "# Written by \"certconnector service install\". Change it by \"systemctl edit\", not here.\n"

// Linux is a host with systemd.
type Linux struct {
	// Root is put before each path of a file: for tests. "": the host itself.
	Root string
	// Run runs a command and returns what it wrote to standard output. nil: it does.
	Run func(ctx context.Context, name string, args ...string) (string, error)
	// chown gives a file of a folder to an account. nil: the folder does.
	chown func(folder *os.Root, name string, uid, gid int) error
}

// Install implements System.
func (l *Linux) Install(ctx context.Context, o Options) ([]steps.Step, error) {
	paths := linux.Paths{Program: o.Program, Config: o.Config, StateDir: o.StateDir, Ports: o.Ports}
	if err := errors.Join(l.ready(ctx), paths.Check(), l.runnable(o.Program), noLinks(o, l.path)); err != nil {
		return nil, err
	}
	units, socket := []unit{{linux.ServiceUnit, mark + paths.Service()}}, ""
	if len(o.Ports) > 0 {
		socket = mark + paths.Socket()
		units = append(units, unit{linux.SocketUnit, socket})
	}
	handOver, err := l.handOver(o)
	if err != nil {
		return nil, err
	}
	list := append([]steps.Step{l.account(o.StateDir), l.configFolder(o), l.stateFolder(o)}, handOver...)
	list = append(list, l.write(units))
	if o.Manual {
		list = append(list, l.rest("have the service not start by itself", linux.ServiceUnit, linux.SocketUnit))
	} else {
		list = append(list, l.enable(units))
	}
	outdated, err := l.outdated(socket)
	return append(list, outdated...), err
}

// ready refuses a host on which nothing can be installed, or must not be.
func (l *Linux) ready(ctx context.Context) error {
	if os.Geteuid() != 0 && l.Root == "" {
		return errors.New("this needs root: run it with sudo")
	}
	if _, err := os.Stat(l.path("/run/systemd/system")); err != nil {
		return errors.New("systemd does not run here: have whatever supervises services here run \"certconnector run\"")
	}
	name, at, err := l.managed(ctx)
	if err != nil {
		return err
	}
	if name != "" {
		return fmt.Errorf("the package %s manages the service (%s): use \"systemctl enable --now %s\" and the package manager, or remove the package first (it keeps keys and journal)", name, at, linux.ServiceUnit)
	}
	if at != "" {
		return fmt.Errorf("%s was not written by this command: remove it first, and run \"systemctl daemon-reload\"", at)
	}
	return nil
}

// managed returns the unit that somebody else has put there, and the package
// it is of, if it is of one.
func (l *Linux) managed(ctx context.Context) (name, at string, err error) {
	for _, dir := range append([]string{unitDir}, packageUnitDirs...) {
		at := filepath.Join(dir, linux.ServiceUnit)
		b, err := os.ReadFile(l.path(at))
		if errors.Is(err, fs.ErrNotExist) || (err == nil && dir == unitDir && bytes.HasPrefix(b, []byte(mark))) {
			continue
		}
		if err != nil {
			return "", "", fmt.Errorf("looking for the unit: %w", err)
		}
		if out, err := l.run(ctx, "dpkg", "-S", at); err == nil {
			name, _, _ := strings.Cut(out, ":")
			return name, at, nil
		}
		if out, err := l.run(ctx, "rpm", "-qf", "--queryformat", "%{NAME}", at); err == nil {
			return strings.TrimSpace(out), at, nil
		}
		return "", at, nil
	}
	return "", "", nil
}

// runnable refuses a program that is not there, and one that others than root
// can replace: root runs it, too.
func (l *Linux) runnable(program string) error {
	info, err := os.Stat(l.path(program))
	if err != nil {
		return fmt.Errorf("the program: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%q is no program", program)
	}
	file, err := filepath.EvalSymlinks(l.path(program))
	if err != nil {
		return fmt.Errorf("the program: %w", err)
	}
	return errors.Join(roots(file, false), l.rootsFolders(l.path(program)), l.rootsFolders(file))
}

// rootsFolders asks of each folder above a file whether it is root's.
func (l *Linux) rootsFolders(file string) error {
	top := l.path("/")
	for dir := filepath.Dir(file); dir != filepath.Clean(top) && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if err := roots(dir, true); err != nil {
			return err
		}
	}
	return nil
}

// roots refuses what others than root can change. Into a sticky folder others
// may put files of their own, and that is all.
func roots(path string, folder bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("the program: %w", err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%q has no owner", path)
	}
	if owner := int(s.Uid); owner != 0 && owner != root() {
		return fmt.Errorf("the program can be replaced by others than root: %q belongs to the account with number %d; run chown root on it, or put the program into /usr/local/bin", path, owner)
	}
	if info.Mode()&0o022 != 0 && !(folder && info.Mode()&fs.ModeSticky != 0) {
		return fmt.Errorf("the program can be replaced by others than root: %q has mode %04o; run chmod 755 on it", path, info.Mode().Perm())
	}
	return nil
}

// Uninstall implements System.
func (l *Linux) Uninstall(ctx context.Context, o Options) ([]steps.Step, error) {
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	list := []steps.Step{l.disable(), l.erase(linux.ServiceUnit, linux.SocketUnit)}
	if !o.Purge {
		return list, nil
	}
	purged, err := purge(o, l.path)
	return append(list, purged...), err
}

// Hints implements System.
func (l *Linux) Hints(o Options) []string {
	var list []string
	if gone, err := missing(l.path(o.Config)); gone && err == nil {
		list = append(list, "Make a configuration: certconnector init --dir "+filepath.Dir(o.Config)+" --state-dir "+o.StateDir)
	}
	list = append(list, "Start with: certconnector service start")
	if len(o.Ports) > 0 {
		list = append(list, "systemd opens "+strings.Join(o.Ports, " and ")+" for the service; after a change of listeners install again, and restart.")
	}
	return list
}

// path is where a file of the host is.
func (l *Linux) path(p string) string {
	if l.Root == "" {
		return p
	}
	return filepath.Join(l.Root, p)
}

func (l *Linux) lchown(folder *os.Root, name string, uid, gid int) error {
	if l.chown != nil {
		return l.chown(folder, name, uid, gid)
	}
	return folder.Lchown(name, uid, gid)
}

func (l *Linux) run(ctx context.Context, name string, args ...string) (string, error) {
	if l.Run != nil {
		return l.Run(ctx, name, args...)
	}
	return command(ctx, name, args...)
}

// command runs a program; what it complained of is in the error.
func command(ctx context.Context, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0")
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}
