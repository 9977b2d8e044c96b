# The targets that people use. Everything is built into bin/.
GO        ?= go
TOOL      := $(GO) tool -modfile=tools/go.mod
FUZZTIME  ?= 60s
ROUNDS    ?= 105
BIN       := bin/polylog
PACKAGES  := ./...

.PHONY: build demo registration xa test fast check race lint format faults powercut bench bench-peers bench-kafka bench-amqp bench-jms interop soak soak-kafka fuzz mutants clean

build: $(BIN) ## the program

$(BIN): FORCE
	$(GO) build -o $@ ./cli/polylog
FORCE:

demo: build ## the whole story on real input; ends with an account of every message
	$(BIN) demo

registration: ## the user-registration example: one after the other, in parallel, through a topic
	$(GO) run ./examples/registration

xa: ## the example of one transaction over PostgreSQL and polylog, whose coordinator is killed at every step
	./test/install postgres
	cd examples/xa && $(GO) run . -rounds $(ROUNDS)

fast: ## the tests that need nothing but Go, under three minutes
	$(GO) test -timeout 3m $(PACKAGES)

test: ## everything: installs what it needs, lints, tests, fuzz seeds, crash tests, the demo, others' clients
	./test/install
	$(MAKE) build lint fast demo registration
	$(MAKE) xa ROUNDS=21
	./test/faults quick
	$(GO) run ./test/soak -polylog $(BIN) -time 60s
	./test/fuzz 60s FuzzRequests
	./interop/java/build
	./interop/run quick -polylog $(CURDIR)/$(BIN)
	./interop/java/run quick
	./interop/jms/run --polylog $(CURDIR)/$(BIN)
	cd interop && $(GO) run ./soak transactions -polylog ../$(BIN) -duration 60s
	cd interop && $(GO) run ./soak rebalance -polylog ../$(BIN) -duration 20s

lint: ## formatting, vet and staticcheck
	@test -z "$$($(TOOL) gofumpt -l . | tee /dev/stderr)"
	$(GO) vet $(PACKAGES)
	$(TOOL) staticcheck $(PACKAGES)

format: ## rewrites the sources as lint wants them
	$(TOOL) gofumpt -w .

race: ## the tests under the race detector
	$(GO) test -race -timeout 15m $(PACKAGES)

check: lint race ## what a commit should have passed

faults: build ## kill -9, fsync failure, full disk: at length
	./test/faults full

powercut: build ## power cuts on a loop device (root)
	./test/faults powercut

bench: build ## the workloads against this machine's own limits
	cd bench && $(GO) run . -polylog ../$(BIN) -peers ceiling,polylog,polylog-memory

bench-peers: build ## the same against NATS JetStream, RabbitMQ, ActiveMQ and Redis
	./test/install peers
	@# The bench runs a Redis of its own: the package's service is not wanted.
	command -v redis-server >/dev/null || { \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server && \
	  { service redis-server stop; update-rc.d redis-server disable; true; }; }
	cd bench && $(GO) run . -polylog ../$(BIN)

bench-kafka: build ## Kafka's protocol, against a real Kafka broker (Java, Maven, librdkafka-dev)
	cd bench && $(GO) run . kafka -polylog ../$(BIN)

bench-amqp: build ## AMQP 1.0 by way of Qpid JMS, against Artemis and RabbitMQ
	./test/install peers
	./interop/jms/run build
	cd bench && $(GO) run . amqp -polylog ../$(BIN) -artemis "$$(../interop/jms/run artemis)"

bench-jms: build ## transactions, groups, priorities and selectors against plain queues
	cd bench && $(GO) run . jms -polylog ../$(BIN)
	@# ns/op is ms for a million evaluations.
	$(GO) test -run '^$$' -bench '^BenchmarkMatch$$' -count 3 -timeout 3m ./destination/selector

interop: build ## Kafka clients that others wrote, at length (Debian, root: installs what it needs)
	./test/install
	./interop/java/build
	./interop/run full -polylog $(CURDIR)/$(BIN)
	./interop/java/run full

soak: build ## half an hour of everything at once, with kills of broker and clients; goes on where it was
	$(GO) run ./test/soak -polylog $(BIN) -dir test/soak/results

soak-kafka: build ## 100 kills under Kafka's transactions, three storms of rebalancing; goes on where it was
	mkdir -p interop/results
	cd interop && $(GO) run ./soak transactions -polylog ../$(BIN) -dir results/soak-transactions
	cd interop && $(GO) run ./soak rebalance -polylog ../$(BIN) -dir results/soak-rebalance

fuzz: ## every fuzz target for FUZZTIME, and Kafka's requests for ten minutes
	./test/fuzz $(FUZZTIME)
	./test/fuzz 10m FuzzRequests

mutants: ## 300 faults seeded into selector, cursor and session: their tests catch 85% of them
	$(GO) run ./test/mutants

clean:
	rm -rf bin
