package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	pb "tasktracer/proto/tasktracer/v1"
)

// Process is what a process tells of itself.
type Process struct {
	Name        string // given by the operator, or the host's
	Incarnation string // Name, "-" and random characters [a-z0-9]; new at each start; begins the session ids of its sockets
	Role        string // ingest, gateway, all
	Address     string // base URL at which sibling processes reach it
}

// How often a process says that it lives, and how large a heartbeat may be.
const (
	leaseEvery = 3 * time.Second
	beatEvery  = time.Second
	beatBytes  = 256 << 10
)

// Hold keeps the process's lease and heartbeats until ctx ends, and then deletes the lease. The tails named in heartbeats are those of this Bus's Appenders.
func (b *Bus) Hold(ctx context.Context, p Process) error {
	b.tails.turnOn()
	b.beats.self(p.Incarnation)
	l := &lease{b: b, p: p, subject: prefixKV + leaseBucket + "." + encodeToken(p.Incarnation), started: time.Now()}
	// The lease is written by a loop of its own: the bucket may be without a leader, and the heartbeats must go on.
	written := make(chan struct{})
	go func() {
		defer close(written)
		l.keep(ctx)
	}()
	err := l.beat(ctx)
	<-written
	l.drop()
	return err
}

type lease struct {
	b       *Bus
	p       Process
	subject string
	started time.Time
	count   uint64
}

func (l *lease) keep(ctx context.Context) {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		if err := l.write(ctx); err != nil && ctx.Err() == nil {
			l.b.log.Warn("lease could not be written", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.b.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *lease) write(ctx context.Context) error {
	l.count++
	data, err := proto.Marshal(&pb.Lease{
		Name: l.p.Name, Incarnation: l.p.Incarnation, Role: l.p.Role, Address: l.p.Address, StartedAtMs: l.started.UnixMilli(), Beat: l.count,
	})
	if err != nil {
		return err
	}
	_, err = l.b.publishAny(ctx, l.subject, nil, data)
	return err
}

// drop says that the process ends of its own will.
func (l *lease) drop() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*attemptWithin)
	defer cancel()
	if err := l.b.dropLease(ctx, l.p.Incarnation); err != nil && l.b.ctx.Err() == nil {
		l.b.log.Warn("lease could not be deleted", "err", err)
	}
}

func (b *Bus) dropLease(ctx context.Context, incarnation string) error {
	_, err := b.publishAny(ctx, prefixKV+leaseBucket+"."+encodeToken(incarnation), nats.Header{hdrKVOp: {"DEL"}}, nil)
	return err
}

func (l *lease) beat(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		if err := l.sendBeats(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.b.ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sendBeats sends one heartbeat, in as many messages as it takes. While not connected nothing is sent, and nobody could hear it.
func (l *lease) sendBeats() error {
	tails := l.b.tails.take()
	for first := true; first || len(tails) > 0; first = false {
		beat := &pb.Heartbeat{Name: l.p.Name, Incarnation: l.p.Incarnation}
		size := 0
		for p, last := range tails {
			if size += len(p) + 16; size > beatBytes-1024 {
				break
			}
			beat.Tails = append(beat.Tails, &pb.Tail{Subject: p, LastSeq: last})
			delete(tails, p)
		}
		data, err := proto.Marshal(beat)
		if err != nil {
			return fmt.Errorf("heartbeat: %w", err)
		}
		if err := l.b.live.nc.Publish(prefixBeat+encodeToken(l.p.Incarnation), data); err != nil {
			l.b.log.Debug("heartbeat", "err", err)
			return nil
		}
	}
	return nil
}
