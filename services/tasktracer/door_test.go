package main

import (
	"flag"
	"strings"
	"testing"

	"tasktracer/pkg/ops"
)

func TestDoorRefusesLimits(t *testing.T) {
	for name, tc := range map[string]struct{ args, want string }{
		"defaults":         {"", ""},
		"no connections":   {"--max-connections 0", "--max-connections"},
		"proxies":          {"--trusted-proxies -1", "--trusted-proxies"},
		"small messages":   {"--max-message 1024", "--max-message"},
		"no attachments":   {"--max-attachments 0", "--max-attachments"},
		"no packets":       {"--max-packets 0", "--max-packets"},
		"no handshakes":    {"--handshake-rate 0", "--handshake-rate"},
		"any handshakes":   {"--handshake-rate -1", ""},
		"no burst":         {"--handshake-burst 0", "--handshake-burst"},
		"hurried writes":   {"--write-timeout 10ms", "--write-timeout"},
		"hurried CONNECT":  {"--connect-timeout 10ms", "--connect-timeout"},
		"hurried tokens":   {"--authenticate-timeout 0s", "--authenticate-timeout"},
		"small bodies":     {"--max-body 1048576", "--max-body"},
		"large messages":   {"--max-message 33554432", ""},
		"body for message": {"--max-message 33554432 --max-body 33554432", "--max-body"},
		"slow bodies":      {"--body-timeout 0s", "--body-timeout"},
		"no buffer":        {"--send-buffer 0", "--send-buffer"},
		"large buffer":     {"--send-buffer 2097152", "--send-buffer"},
		"hurried upgrade":  {"--upgrade-timeout 1ms", "--upgrade-timeout"},
		"hurried pings":    {"--ping-interval 1ms", "--ping-interval"},
		"hurried pongs":    {"--ping-timeout 1ms", "--ping-timeout"},
		"all of them good": {"--connect-timeout 1s --authenticate-timeout 1m --max-message 8388608 --max-attachments 1 --max-packets 10 --handshake-burst 1 --write-timeout 5s", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var cfg doorConfig
			fs := flag.NewFlagSet("door", flag.ContinueOnError)
			cfg.register(fs)
			if err := ops.Parse(fs, strings.Fields(tc.args), func(string) string { return "" }); err != nil {
				t.Fatal(err)
			}
			err := cfg.validate()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
				t.Errorf("validate of %q = %v, want an error that begins with %q", tc.args, err, tc.want)
			}
		})
	}
}
