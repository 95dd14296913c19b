package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/cmd/certlab/load"
	"github.com/certconnector/certconnector/internal/secret"
)

func (p *program) loadCommand() *cobra.Command {
	var o load.Options
	var challenge, challengeFile, caFile, serials string
	var tolerate bool
	c := &cobra.Command{
		Use:   "load --url URL --challenge TEXT [flags]",
		Short: "Measure a SCEP server on this machine, every reply verified",
		Long: `Sends a fixed number of first enrolments over keep-alive connections, each with
its own subject and transaction ID, and verifies every reply: signer, message
type, transaction ID, nonce, envelope, key, names, issuer, serial number. What
fails any of these is counted with its reason, and the exit code is 1.
Requests are made before the clock starts; replies are verified after it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Challenge, err = challengeOf(challenge, challengeFile); err != nil {
				return err
			}
			if o.Roots, err = rootsFrom(caFile); err != nil {
				return err
			}
			r, err := load.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if serials != "" {
				if err := os.WriteFile(serials, []byte(strings.Join(r.Serials, "\n")+"\n"), 0o600); err != nil {
					return fmt.Errorf("writing the serial numbers: %w", err)
				}
			}
			if p.json {
				err = p.writeJSON(r)
			} else {
				p.loadReport(r)
			}
			if err == nil && r.Failed > 0 && !tolerate {
				err = errRefused
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.URL, "url", "", "address of the endpoint, loopback only (required)")
	f.StringVar(&challenge, "challenge", "", "challenge of every request")
	f.StringVar(&challengeFile, "challenge-file", "", "file with the challenge of every request")
	f.StringVar(&o.CloudControl, "cloud-control", "", `control API of a "certlab cloud" that makes a challenge for each request`)
	f.StringVar(&o.Platform, "platform", "windows", "with --cloud-control: whose profile the challenges are for")
	f.IntVarP(&o.N, "requests", "n", 300, "requests that are measured")
	f.IntVarP(&o.Concurrency, "connections", "c", 8, "keep-alive connections, each with one request under way")
	f.IntVar(&o.Warmup, "warmup", 50, "requests before the clock starts; they get certificates too")
	f.IntVar(&o.PID, "pid", 0, "process of the server, for its CPU time and memory (Linux)")
	f.StringVar(&o.Method, "method", "post", "post or get")
	f.StringVar(&o.Cipher, "cipher", "aes128", "content encryption of the requests: aes128, aes256, 3des or des")
	f.IntVar(&o.Keys, "keys", 64, "RSA-2048 device keys, used in turn")
	f.StringVar(&o.KeyFile, "reuse-keys", "", "file that keeps the device keys for the next run")
	f.StringVar(&caFile, "ca-file", "", "PEM file with the roots of the server's TLS certificate")
	f.BoolVar(&o.Insecure, "insecure", false, "do not verify the server's TLS certificate")
	f.DurationVar(&o.Timeout, "timeout", 0, "limit of one request (default 1m)")
	f.DurationVar(&o.MaxTime, "max-time", 0, "limit of the measured part (default 5m)")
	f.StringVar(&serials, "serials", "", "file that gets the serial number of every certificate received, one a line")
	f.BoolVar(&tolerate, "tolerate", false, "exit with 0 although requests failed, for crash tests")
	return c
}

// challengeOf takes a challenge from the command line or from a file.
func challengeOf(text, file string) (secret.Text, error) {
	if file == "" {
		return secret.Text(text), nil
	}
	if text != "" {
		return "", errors.New("--challenge and --challenge-file: want one of them")
	}
	return secretFrom(file)
}

func (p *program) loadReport(r *load.Report) {
	p.printf("%d requests by %s over %d connections: %d ok, %d failed\n", r.Requests, r.Method, r.Concurrency, r.OK, r.Failed)
	for _, why := range slices.Sorted(maps.Keys(r.Errors)) {
		p.printf("  %6d  %s\n", r.Errors[why], show(why))
	}
	p.printf("%.1f requests/s; %.1f ms p50, %.1f ms p90, %.1f ms p99, %.1f ms at most\n", r.PerSecond, r.P50, r.P90, r.P99, r.Max)
	if r.ServerCPU > 0 {
		p.printf("server: %.2f ms CPU a request (%.2f user, %.2f system), %d KiB resident, %d KiB at most\n",
			r.ServerCPU, r.ServerUser, r.ServerSystem, r.ServerRSS, r.ServerPeak)
	}
}
