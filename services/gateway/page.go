package gateway

import "net/http"

func (s *Service) mountPage(mux *http.ServeMux) {}
func (s *Service) mountAPI(mux *http.ServeMux)  {}
