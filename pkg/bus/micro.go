package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// ErrNoService says that nobody serves the subject.
var ErrNoService = errors.New("no such service is running")

// Bounds of request and reply.
const (
	requestWithin = 5 * time.Second // where the caller's context has no deadline
	serveAtOnce   = 64              // requests handled at a time, per endpoint; more wait in the subscription, and time out there
)

// Endpoint is one subject of a micro service.
type Endpoint struct {
	Name, Subject string
	// Handle answers a request. Its error is passed to the caller as text. Calls overlap.
	Handle func(ctx context.Context, data []byte) ([]byte, error)
}

// Request sends to a micro service and returns its answer; without a deadline in ctx, within 5 s. No service: an error wrapping ErrNoService at once.
func (b *Bus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	r, err := b.live.request(ctx, &nats.Msg{Subject: subject, Data: data}, requestWithin)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("request %s: %w", subject, ErrNoService)
	}
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", subject, err)
	}
	if text := r.Header.Get(micro.ErrorHeader); text != "" {
		return nil, fmt.Errorf("request %s: %s", subject, text)
	}
	return r.Data, nil
}

// Serve runs a NATS micro service until ctx ends, and then until the requests under way are answered. Replicas share the work.
func (b *Bus) Serve(ctx context.Context, name, version string, endpoints ...Endpoint) error {
	svc, err := micro.AddService(b.live.nc, micro.Config{Name: name, Version: version})
	if err != nil {
		return fmt.Errorf("serve %s: %w", name, err)
	}
	var under sync.WaitGroup
	hctx := context.WithoutCancel(ctx)
	for _, e := range endpoints {
		places := make(chan struct{}, serveAtOnce)
		h := micro.HandlerFunc(func(req micro.Request) {
			places <- struct{}{}
			under.Go(func() {
				defer func() { <-places }()
				b.answer(hctx, e, req)
			})
		})
		if err := svc.AddEndpoint(e.Name, h, micro.WithEndpointSubject(e.Subject)); err != nil {
			return errors.Join(fmt.Errorf("serve %s: %w", name, err), svc.Stop())
		}
	}
	select {
	case <-ctx.Done():
	case <-b.ctx.Done():
	}
	err = svc.Stop() // drains: what was received is handled
	under.Wait()
	if err != nil && b.ctx.Err() == nil {
		return fmt.Errorf("serve %s: %w", name, err)
	}
	return nil
}

func (b *Bus) answer(ctx context.Context, e Endpoint, req micro.Request) {
	hctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	// Not by req.Respond or req.Error: what they note in the request, micro reads as soon as its handler has returned, and this is beside it.
	reply := nats.NewMsg(req.Reply())
	data, err := e.Handle(hctx, req.Data())
	if err == nil {
		reply.Data = data
	} else {
		reply.Header.Set(micro.ErrorHeader, err.Error())
		reply.Header.Set(micro.ErrorCodeHeader, "500")
	}
	if err := b.live.nc.PublishMsg(reply); err != nil {
		b.log.Warn("answer", "endpoint", e.Name, "err", err)
	}
}

// Broadcast sends data to every process that listens on the subject. It fails when not connected; who is not connected misses it.
func (b *Bus) Broadcast(subject string, data []byte) error {
	if err := b.live.nc.Publish(subject, data); err != nil {
		return fmt.Errorf("broadcast %s: %w", subject, err)
	}
	return nil
}

// Listen calls fn with what is broadcast on the subject, one call at a time, until ctx ends.
func (b *Bus) Listen(ctx context.Context, subject string, fn func(data []byte)) error {
	sub, err := b.live.nc.Subscribe(subject, func(m *nats.Msg) { fn(m.Data) })
	if err != nil {
		return fmt.Errorf("listen %s: %w", subject, err)
	}
	select {
	case <-ctx.Done():
	case <-b.ctx.Done():
	}
	if err := sub.Unsubscribe(); err != nil && b.ctx.Err() == nil {
		return fmt.Errorf("listen %s: %w", subject, err)
	}
	return nil
}
