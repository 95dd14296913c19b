package service

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/installer/steps"
)

// rule is one of our name that lets TCP in.
type rule struct{ program, ports string } // ports in order, with commas

// ruleOf is the rule that an installation makes.
func ruleOf(o Options) rule { return rule{o.Program, ordered(ports(o))} }

func ports(o Options) []string {
	if len(o.Ports) == 0 {
		return []string{"443"}
	}
	return o.Ports
}

func ordered(ports []string) string { return strings.Join(slices.Sorted(slices.Values(ports)), ",") }

// differs compares programs as Windows does.
func (r rule) differs(from rule) bool {
	return !strings.EqualFold(r.program, from.program) || r.ports != from.ports
}

// readRule reads a rule as [MS-GPFAS] writes it, fields between bars:
// v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=443|App=C:\cc.exe|Name=cc|
// ok: it lets TCP in, and has our name.
func readRule(text string) (r rule, ok bool) {
	var open []string
	has := map[string]string{}
	for field := range strings.SplitSeq(text, "|") {
		key, value, _ := strings.Cut(field, "=")
		if strings.HasPrefix(key, "LPort") { // LPort2_10 and others have ranges
			open = append(open, value)
		}
		has[key] = value
	}
	ok = strings.EqualFold(has["Name"], Name) && has["Action"] == "Allow" && has["Dir"] == "In" && has["Protocol"] == "6"
	return rule{has["App"], ordered(open)}, ok
}

// rules are those that are there. netsh would tell them in the language of the
// system.
func (w *Windows) rules() ([]rule, error) {
	texts, err := w.Manager.FirewallRules()
	var list []rule
	for _, text := range texts {
		if r, ok := readRule(text); ok {
			list = append(list, r)
		}
	}
	return list, err
}

// firewall is the step that lets devices through. A rule with the same port and
// program is not touched, so that what somebody has narrowed in it stays;
// another one of our name is made anew.
func (w *Windows) firewall(o Options) steps.Step {
	now := ruleOf(o)
	var was []rule
	return steps.Step{
		Does: "let port " + strings.Join(ports(o), ", ") + " through the firewall of Windows",
		Holds: func(context.Context) (bool, error) {
			list, err := w.rules()
			return len(list) > 0 && !slices.ContainsFunc(list, now.differs), err
		},
		Do: func(ctx context.Context) (err error) {
			if was, err = w.rules(); err != nil {
				return err
			}
			if err := w.drop(ctx, was); err != nil {
				return err
			}
			if err := w.allow(ctx, now); err != nil {
				return errors.Join(err, w.allow(context.Background(), was...))
			}
			return nil
		},
		Undo: func() error {
			return errors.Join(w.drop(context.Background(), []rule{now}), w.allow(context.Background(), was...))
		},
	}
}

// closeFirewall is the step that takes the rule away.
func (w *Windows) closeFirewall() steps.Step {
	var was []rule
	return steps.Step{
		Does: "remove the rule " + Name + " from the firewall of Windows",
		Holds: func(context.Context) (bool, error) {
			list, err := w.rules()
			return len(list) == 0, err
		},
		Do: func(ctx context.Context) (err error) {
			if was, err = w.rules(); err != nil {
				return err
			}
			return w.drop(ctx, was)
		},
		Undo: func() error { return w.allow(context.Background(), was...) },
	}
}

func (w *Windows) allow(ctx context.Context, list ...rule) error {
	var errs []error
	for _, r := range list {
		args := []string{"advfirewall", "firewall", "add", "rule", "name=" + Name, "dir=in", "action=allow", "protocol=TCP"}
		if r.ports != "" { // a rule without is for all
			args = append(args, "localport="+r.ports)
		}
		if r.program != "" {
			args = append(args, "program="+r.program)
		}
		_, err := w.Run(ctx, "netsh", args...)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// drop removes the rules of our name, if there are any: netsh complains where
// there are none.
func (w *Windows) drop(ctx context.Context, list []rule) error {
	if len(list) == 0 {
		return nil
	}
	_, err := w.Run(ctx, "netsh", "advfirewall", "firewall", "delete", "rule", "name="+Name, "dir=in", "protocol=TCP")
	return err
}
