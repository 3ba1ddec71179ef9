package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// runHealth asks a server's /readyz or /healthz: for containers whose image has no shell and no wget.
func runHealth(ctx context.Context, c *call) error {
	if len(c.args) != 1 {
		return usageError{errors.New("want one URL, such as http://127.0.0.1:8004/readyz")}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.args[0], nil)
	if err != nil {
		return usageError{err}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", c.args[0], resp.Status)
	}
	return nil
}
