package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	tasktracerv1 "tasktracer/proto/tasktracer/v1"
)

// The subjects on which the token service answers.
const (
	SubjectVerify = "tt.svc.tokens.verify"
	SubjectIssue  = "tt.svc.tokens.issue"
)

const (
	// verdictLife bounds how long a verdict is used again; a revocation drops it at once.
	verdictLife = 10 * time.Second
	// attemptWithin is how long one replica may take to answer, maxAttempts how many are asked.
	attemptWithin = 500 * time.Millisecond
	maxAttempts   = 8
	// awayFirst is the first pause, doubled from one to the next, before asking again when the service cannot be reached: its connection to NATS, or ours,
	// is back in a moment when a node of NATS has died.
	awayFirst = 50 * time.Millisecond
	// maxVerdicts and maxRevoked bound the memory; when full, any one entry makes room. A forgotten verdict costs one more request,
	// and a forgotten revocation nothing, for the service remembers all of them.
	maxVerdicts = 10_000
	maxRevoked  = 100_000
)

// Requester asks a service over the bus (pkg/bus implements it).
type Requester interface {
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
}

// Remote verifies and issues by asking the token service, with a short cache of verdicts. It is safe for concurrent use.
type Remote struct {
	requester    Requester
	hits, misses atomic.Uint64

	mu        sync.Mutex
	verdicts  map[verdictKey]verdict
	revoked   map[string]time.Time // until when to remember
	listeners map[int]func(jti string)
	nextID    int
}

// verdictKey holds a hash, so that the cache is no place where tokens lie around.
type verdictKey struct {
	token [sha256.Size]byte
	want  Type
}

type verdict struct {
	claims Claims
	err    error
	until  time.Time
}

// NewRemote asks through r.
func NewRemote(r Requester) *Remote {
	return &Remote{requester: r, verdicts: map[verdictKey]verdict{}, revoked: map[string]time.Time{}, listeners: map[int]func(string){}}
}

// Verify checks a token; want is the type that the caller needs. Errors: the four of this package, or trouble reaching the service,
// which says nothing about the token. With ErrExpired the claims are told all the same: who was let in before may go on.
func (v *Remote) Verify(ctx context.Context, token string, want Type) (Claims, error) {
	if token == "" {
		return Claims{}, ErrMissing
	}
	if len(token) > MaxToken {
		return Claims{}, ErrInvalid
	}
	key := verdictKey{sha256.Sum256([]byte(token)), want}
	if found, ok := v.cached(key); ok {
		v.hits.Add(1)
		return found.claims, found.err
	}
	v.misses.Add(1)
	c, err := v.ask(ctx, token, want)
	if err != nil && Code(err) == "" {
		return Claims{}, fmt.Errorf("verify token: %w", err)
	}
	return v.remember(key, c, err)
}

func (v *Remote) ask(ctx context.Context, token string, want Type) (Claims, error) {
	req, err := proto.Marshal(&tasktracerv1.VerifyRequest{Token: token, Type: string(want)})
	if err != nil {
		return Claims{}, ErrInvalid // not valid UTF-8: no token is
	}
	data, err := v.request(ctx, SubjectVerify, req)
	if err != nil {
		return Claims{}, err
	}
	var resp tasktracerv1.VerifyResponse
	if err := proto.Unmarshal(data, &resp); err != nil {
		return Claims{}, fmt.Errorf("decode answer: %w", err)
	}
	if resp.GetError() != "" {
		if err := fromCode(resp.GetError()); err != nil {
			return expiredClaims(resp.GetClaims(), want, err), err
		}
		return Claims{}, fmt.Errorf("token service answered %q", resp.GetError())
	}
	c := ClaimsFromProto(resp.GetClaims())
	if c.Type != want {
		return Claims{}, fmt.Errorf("token service answered with type %q, asked for %q", c.Type, want)
	}
	return c, nil
}

// request asks a replica, and another one when the first does not answer in time: it may have died, or been stopped, with the question in hand.
// Where none can be reached it asks again a little later, for about 2 s. Asking twice does no harm.
func (v *Remote) request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	for tries, wait := 1, awayFirst; ; tries++ {
		attempt, cancel := context.WithTimeout(ctx, attemptWithin)
		answer, err := v.requester.Request(attempt, subject, data)
		late := attempt.Err() != nil
		cancel()
		if err == nil || ctx.Err() != nil || tries == maxAttempts {
			return answer, err
		}
		if late {
			continue
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, attemptWithin)
		case <-ctx.Done():
			return nil, err
		}
	}
}

// expiredClaims are what an answer says of a token whose only fault is its age.
func expiredClaims(p *tasktracerv1.Claims, want Type, err error) Claims {
	if c := ClaimsFromProto(p); errors.Is(err, ErrExpired) && c.Type == want {
		return c
	}
	return Claims{}
}

func (v *Remote) cached(key verdictKey) (verdict, bool) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	found, ok := v.verdicts[key]
	if !ok || now.After(found.until) {
		delete(v.verdicts, key)
		return verdict{}, false
	}
	return v.judge(found, now), true
}

// judge applies what is newer than the verdict: the clock, and revocations. The lock is held.
func (v *Remote) judge(found verdict, now time.Time) verdict {
	if _, ok := v.revoked[found.claims.ID]; ok && found.claims.ID != "" {
		return verdict{err: ErrRevoked}
	}
	if found.err == nil && !found.claims.Expires.IsZero() && now.After(found.claims.Expires) {
		found.err = ErrExpired
	}
	return found
}

func (v *Remote) remember(key verdictKey, c Claims, err error) (Claims, error) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	found := verdict{c, err, now.Add(verdictLife)}
	if len(v.verdicts) >= maxVerdicts {
		for k := range v.verdicts {
			delete(v.verdicts, k)
			break
		}
	}
	v.verdicts[key] = found
	// A revocation may have come while the answer was on its way.
	found = v.judge(found, now)
	return found.claims, found.err
}

// Issue makes a token. The type, the namespace, the tasks and ReadOnly of c count; a life of 0 means the service's default for the type.
// Errors: trouble reaching the service, or what it said.
func (v *Remote) Issue(ctx context.Context, c Claims, life time.Duration) (token string, issued Claims, err error) {
	req, err := proto.Marshal(&tasktracerv1.IssueRequest{Claims: c.Proto(), LifeSeconds: int64(life / time.Second)})
	if err != nil {
		return "", Claims{}, fmt.Errorf("issue %s: %w", c.Type, err)
	}
	data, err := v.request(ctx, SubjectIssue, req)
	if err != nil {
		return "", Claims{}, fmt.Errorf("issue %s: %w", c.Type, err)
	}
	var resp tasktracerv1.IssueResponse
	if err := proto.Unmarshal(data, &resp); err != nil {
		return "", Claims{}, fmt.Errorf("issue %s: decode answer: %w", c.Type, err)
	}
	if resp.GetError() != "" {
		return "", Claims{}, fmt.Errorf("issue %s: %s", c.Type, resp.GetError())
	}
	return resp.GetToken(), ClaimsFromProto(resp.GetClaims()), nil
}

// Revoked drops what is cached of a token id, remembers until expires that it is revoked (for good where expires is zero), and tells the
// listeners. Wire it to the bus' watch of revocations; the same id may be told again.
func (v *Remote) Revoked(jti string, expires time.Time) {
	for _, fn := range v.revoke(jti, expires) {
		fn(jti)
	}
}

func (v *Remote) revoke(jti string, expires time.Time) []func(string) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.revoked) >= maxRevoked {
		v.forget(now)
	}
	v.revoked[jti] = expires
	fns := make([]func(string), 0, len(v.listeners))
	for _, fn := range v.listeners {
		fns = append(fns, fn)
	}
	return fns
}

// forget makes room among the revocations: all whose tokens have expired, or else any one. The lock is held.
func (v *Remote) forget(now time.Time) {
	for jti, expires := range v.revoked {
		if !expires.IsZero() && now.After(expires) {
			delete(v.revoked, jti)
		}
	}
	for jti := range v.revoked {
		if len(v.revoked) < maxRevoked {
			return
		}
		delete(v.revoked, jti)
	}
}

// OnRevoked has fn called with the id of each token revoked from now on, by the goroutine that calls Revoked; stop ends it.
func (v *Remote) OnRevoked(fn func(jti string)) (stop func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id := v.nextID
	v.nextID++
	v.listeners[id] = fn
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.listeners, id)
	}
}

// Cache tells how many verdicts came from the cache, and how many were asked for.
func (v *Remote) Cache() (hits, misses uint64) { return v.hits.Load(), v.misses.Load() }

// Proto gives the claims as the token service's messages have them.
func (c Claims) Proto() *tasktracerv1.Claims {
	return &tasktracerv1.Claims{
		Type: string(c.Type), Namespace: c.Namespace, IssuedAt: seconds(c.IssuedAt), ExpiresAt: seconds(c.Expires),
		Jti: c.ID, Tasks: c.Tasks, ReadOnly: c.ReadOnly,
	}
}

// ClaimsFromProto is the reverse of Proto.
func ClaimsFromProto(p *tasktracerv1.Claims) Claims {
	return Claims{
		Type: Type(p.GetType()), Namespace: p.GetNamespace(), IssuedAt: moment(p.GetIssuedAt()), Expires: moment(p.GetExpiresAt()),
		ID: p.GetJti(), Tasks: p.GetTasks(), ReadOnly: p.GetReadOnly(),
	}
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func moment(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}
