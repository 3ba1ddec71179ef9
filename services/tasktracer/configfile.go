package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tailscale/hujson"

	"tasktracer/pkg/auth"
)

// maxConfigFile bounds what is read: a configuration, not a log given by mistake.
const maxConfigFile = 1 << 20

// fileConfig is a configuration file: the older system's, with comments allowed, and our own additions to it ("keys").
type fileConfig struct {
	Host  string // me.host: where viewers reach the service; "" if the file does not say
	Keys  map[auth.Type][]auth.Key
	Life  map[auth.Type]time.Duration
	Notes []string // what an operator should know of the file
}

type fileForm struct {
	Me struct {
		Host string `json:"host"`
	} `json:"me"`
	JWT struct {
		Client  keyForm `json:"clientToken"`
		Browser keyForm `json:"browserToken"`
		Base    keyForm `json:"baseToken"`
	} `json:"jwt"`
}

type keyForm struct {
	Secret  string `json:"secret"`
	Options struct {
		Algorithm string          `json:"algorithm"`
		ExpiresIn json.RawMessage `json:"expiresIn"`
	} `json:"options"`
	// Keys come before the secret: the first of them signs. For rotation, and for EdDSA.
	Keys []struct {
		ID        string `json:"id"`
		Algorithm string `json:"algorithm"`
		Secret    string `json:"secret"`
		File      string `json:"file"` // PEM, beside the configuration file unless absolute
	} `json:"keys"`
}

// readConfigFile reads a configuration file.
func readConfigFile(path string) (fileConfig, error) {
	f, err := os.Open(path)
	if err != nil {
		return fileConfig{}, fmt.Errorf("--config: %w", err)
	}
	defer f.Close()
	var text bytes.Buffer
	n, err := text.ReadFrom(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return fileConfig{}, fmt.Errorf("--config: %w", err)
	}
	if n > maxConfigFile {
		return fileConfig{}, fmt.Errorf("--config %s: want a file of at most 1 MiB", path)
	}
	cfg, err := parseConfig(text.Bytes(), filepath.Dir(path))
	if err != nil {
		return fileConfig{}, fmt.Errorf("--config %s: %w", path, err)
	}
	return cfg, nil
}

func parseConfig(text []byte, dir string) (fileConfig, error) {
	plain, err := hujson.Standardize(text)
	if err != nil {
		return fileConfig{}, err
	}
	var form fileForm
	if err := json.Unmarshal(plain, &form); err != nil {
		return fileConfig{}, err
	}
	cfg := fileConfig{Host: publicURL(form.Me.Host), Keys: map[auth.Type][]auth.Key{}, Life: map[auth.Type]time.Duration{}, Notes: notes(plain)}
	year := 8766 * time.Hour
	for _, k := range []struct {
		name string
		t    auth.Type
		form keyForm
		life time.Duration
	}{
		{"jwt.clientToken", auth.Client, form.JWT.Client, year},
		{"jwt.browserToken", auth.Browser, form.JWT.Browser, 24 * time.Hour},
		{"jwt.baseToken", auth.Base, form.JWT.Base, year},
	} {
		if cfg.Keys[k.t], err = k.form.keys(dir); err != nil {
			return fileConfig{}, fmt.Errorf("%s: %w", k.name, err)
		}
		if cfg.Life[k.t], err = expiresIn(k.form.Options.ExpiresIn, k.life); err != nil {
			return fileConfig{}, fmt.Errorf("%s.options.expiresIn: %w", k.name, err)
		}
	}
	return cfg, nil
}

func (k keyForm) keys(dir string) ([]auth.Key, error) {
	var keys []auth.Key
	for i, f := range k.Keys {
		key, err := newKey(f.ID, f.Algorithm, f.Secret, f.File, dir)
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		keys = append(keys, key)
	}
	if k.Secret != "" {
		key, err := auth.NewSecretKey("", k.Options.Algorithm, []byte(k.Secret))
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("no secret given")
	}
	return keys, nil
}

func newKey(id, algorithm, secret, file, dir string) (auth.Key, error) {
	if id == "" {
		return auth.Key{}, errors.New("id is missing")
	}
	if algorithm != "EdDSA" {
		return auth.NewSecretKey(id, algorithm, []byte(secret))
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return auth.Key{}, err
	}
	return auth.NewEdDSAKey(id, text)
}

// expiresIn reads a life as the older system's library does: a number is seconds, text of digits only milliseconds, else a period with its unit.
func expiresIn(raw json.RawMessage, missing time.Duration) (time.Duration, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return missing, nil
	}
	var seconds float64
	if json.Unmarshal(raw, &seconds) == nil {
		return auth.ParsePeriod(fmt.Sprintf("%.3fs", seconds))
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return 0, fmt.Errorf("%s is neither text nor a number", raw)
	}
	if text != "" && strings.Trim(text, "0123456789") == "" {
		var ms float64
		if err := json.Unmarshal([]byte(text), &ms); err != nil {
			return 0, fmt.Errorf("%q is no number", text)
		}
		return auth.ParsePeriod(fmt.Sprintf("%.3fs", ms/1000))
	}
	return auth.ParsePeriod(text)
}

// publicURL completes a host as it stands in older files: the scheme may be missing, a slash may end it.
func publicURL(host string) string {
	host = strings.TrimRight(host, "/")
	if host != "" && !strings.Contains(host, "://") {
		return "http://" + host
	}
	return host
}

// notes lists the parts of the file that do nothing here.
func notes(plain []byte) []string {
	var parts map[string]json.RawMessage
	if json.Unmarshal(plain, &parts) != nil {
		return nil
	}
	var out []string
	for name := range parts {
		switch name {
		case "me", "jwt":
		case "redis":
			out = append(out, "redis is not needed: its settings are ignored")
		default:
			out = append(out, fmt.Sprintf("%s is not known here: its settings are ignored", name))
		}
	}
	slices.Sort(out)
	return out
}
