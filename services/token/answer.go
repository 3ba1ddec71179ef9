package token

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"tasktracer/pkg/auth"
	tasktracerv1 "tasktracer/proto/tasktracer/v1"
)

// answerVerify answers a VerifyRequest.
func (s *Service) answerVerify(_ context.Context, data []byte) ([]byte, error) {
	var req tasktracerv1.VerifyRequest
	if err := proto.Unmarshal(data, &req); err != nil {
		return nil, fmt.Errorf("decode verify request: %w", err)
	}
	c, err := s.verify(req.GetToken(), auth.Type(req.GetType()))
	resp := &tasktracerv1.VerifyResponse{Error: auth.Code(err)}
	if err == nil || errors.Is(err, auth.ErrExpired) {
		resp.Claims = c.Proto()
	}
	return proto.Marshal(resp)
}

// answerIssue answers an IssueRequest. Who may ask is decided by who may publish on the subject.
func (s *Service) answerIssue(_ context.Context, data []byte) ([]byte, error) {
	var req tasktracerv1.IssueRequest
	if err := proto.Unmarshal(data, &req); err != nil {
		return nil, fmt.Errorf("decode issue request: %w", err)
	}
	c := auth.ClaimsFromProto(req.GetClaims())
	if c.Type == auth.Base {
		return proto.Marshal(&tasktracerv1.IssueResponse{Error: "base tokens are not issued over the bus"})
	}
	if req.GetLifeSeconds() < 0 || req.GetLifeSeconds() > int64(auth.MaxPeriod/time.Second) {
		return proto.Marshal(&tasktracerv1.IssueResponse{Error: "life is out of range"})
	}
	token, issued, err := s.issue(c, time.Duration(req.GetLifeSeconds())*time.Second)
	if err != nil {
		return proto.Marshal(&tasktracerv1.IssueResponse{Error: err.Error()})
	}
	return proto.Marshal(&tasktracerv1.IssueResponse{Token: token, Claims: issued.Proto()})
}
