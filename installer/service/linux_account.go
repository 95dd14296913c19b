//go:build unix

package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/certconnector/certconnector/installer/linux"
	"github.com/certconnector/certconnector/installer/steps"
)

// noLogin is the shell of an account that nobody signs in with.
const noLogin = "/usr/sbin/nologin"

// account is the step that makes the service's account. An uninstallation
// keeps it, so that its number is not given to somebody else who could then
// read a backup.
func (l *Linux) account(home string) steps.Step {
	return steps.Step{
		Does: "make the system account " + linux.Account,
		Holds: func(ctx context.Context) (bool, error) {
			_, _, ok := l.ids(ctx)
			return ok, nil
		},
		Do: func(ctx context.Context) error { return l.makeAccount(ctx, home) },
		Undo: func() error {
			_, err := l.run(context.Background(), "userdel", linux.Account)
			return err
		},
	}
}

// makeAccount has systemd make the account, as the packages do, or useradd
// where a distribution leaves systemd-sysusers out.
func (l *Linux) makeAccount(ctx context.Context, home string) error {
	line := fmt.Sprintf("u %s - %q %s %s", linux.Account, "certconnector service", home, noLogin)
	_, err := l.run(ctx, "systemd-sysusers", "--inline", line)
	if errors.Is(err, exec.ErrNotFound) {
		_, err = l.run(ctx, "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", home,
			"--shell", noLogin, "--comment", "certconnector service", linux.Account)
	}
	if err != nil {
		return err
	}
	if _, _, ok := l.ids(ctx); !ok {
		return errors.New("the account was made and cannot be found")
	}
	return nil
}

// ids are the numbers of the account and its group. getent asks where the
// system keeps accounts, which may be a directory.
func (l *Linux) ids(ctx context.Context) (uid, gid int, ok bool) {
	out, err := l.run(ctx, "getent", "passwd", linux.Account)
	if err != nil {
		return 0, 0, false
	}
	fields := strings.Split(strings.TrimSpace(out), ":")
	if len(fields) < 4 {
		return 0, 0, false
	}
	uid, err = strconv.Atoi(fields[2])
	if err != nil {
		return 0, 0, false
	}
	gid, err = strconv.Atoi(fields[3])
	return uid, gid, err == nil
}

// mustIDs is ids after the account was made.
func (l *Linux) mustIDs(ctx context.Context) (uid, gid int, err error) {
	uid, gid, ok := l.ids(ctx)
	if !ok {
		return 0, 0, fmt.Errorf("there is no account %s", linux.Account)
	}
	return uid, gid, nil
}

// root is who installs; in a test it is whoever runs that.
func root() int { return os.Geteuid() }
