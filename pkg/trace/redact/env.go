package redact

import "strings"

// secretEndings are the endings of names of environment variables whose values are secret.
func secretEndings() []string {
	return []string{"TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASSPHRASE", "API_KEY", "APIKEY", "ACCESS_KEY", "SECRET_KEY", "PRIVATE_KEY", "ENCRYPTION_KEY", "CREDENTIAL", "CREDENTIALS", "_PWD", "_PASS", "_AUTH"}
}

// Environment gives the values of those variables (KEY=value each) whose names look secret.
func Environment(env []string) []string {
	var secrets []string
	for _, e := range env {
		name, value, ok := strings.Cut(e, "=")
		if ok && value != "" && looksSecret(name) {
			secrets = append(secrets, value)
		}
	}
	return secrets
}

func looksSecret(name string) bool {
	name = strings.ToUpper(name)
	for _, ending := range secretEndings() {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}
