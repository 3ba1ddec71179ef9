module tasktracer/deploy/e2e

go 1.26.0

require tasktracer v0.0.0

require github.com/gorilla/websocket v1.5.3 // indirect

replace tasktracer => ../..
