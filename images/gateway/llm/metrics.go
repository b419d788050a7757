package llm

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Buckets in seconds. The first follow OpenTelemetry's GenAI conventions, widened
// to 300 s for cold loads and to 1 ms for engines that are quick.
var (
	durationBuckets = []float64{.005, .01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 300}
	tokenGapBuckets = []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 10}
	tokenBuckets    = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576}
)

// metrics outlive reloads of the configuration: every new registry gets the same ones.
var metrics = newMetricSet()

// metricSet holds every metric of the package. Labels only ever take names from the
// configuration, the consumers file or this package, so the number of series is bounded.
type metricSet struct {
	firstToken, perToken, duration, tokens, gap *prometheus.HistogramVec

	requests, cut, finish, refused, authFailures *prometheus.CounterVec
	tokensTotal, retries, fallbacks              *prometheus.CounterVec
	inFlight, engineInFlight, engineHealthy      *prometheus.GaugeVec

	consumersFileOK, consumersLoaded, consumers prometheus.Gauge
	consumersLoads                              *prometheus.CounterVec
}

func newMetricSet() *metricSet {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return &metricSet{
		firstToken: histogram("gen_ai_server_time_to_first_token_seconds",
			"Time from the request's arrival to the first piece of a streamed answer that has content.",
			durationBuckets, "consumer", "model", "operation"),
		perToken: histogram("gen_ai_server_time_per_output_token_seconds",
			"Mean time per token of a streamed answer after its first one.",
			tokenGapBuckets, "consumer", "model", "operation"),
		duration: histogram("gen_ai_server_request_duration_seconds",
			"Time from the request's arrival to the end of the answer.",
			durationBuckets, "consumer", "model", "operation"),
		tokens: histogram("gen_ai_client_token_usage",
			"Tokens of one request; output tokens of engines that tell no usage are pieces of the stream.",
			tokenBuckets, "consumer", "model", "operation", "token_type"),
		gap: histogram("gen_ai_client_operation_time_per_output_chunk_seconds",
			"Time between two pieces of a streamed answer.", tokenGapBuckets, "model"),
		requests: counter("gateway_llm_requests_total",
			"Requests that reached an engine's proxy, by the status the client got.",
			"consumer", "model", "operation", "status"),
		inFlight: gauges("gateway_llm_requests_in_flight", "Requests that an engine is answering now.", "model"),
		engineInFlight: gauges("gateway_engine_in_flight",
			"Requests that an instance of an engine has now, waiting ones among them.", "engine", "instance"),
		engineHealthy: gauges("gateway_engine_healthy",
			"1 while an instance answers its health check, else 0. Only engines with several instances are checked.",
			"engine", "instance"),
		retries: counter("gateway_llm_retries_total",
			"Requests that went on to another instance of the engine, by what the one before did.", "model", "reason"),
		fallbacks: counter("gateway_llm_fallbacks_total",
			"Requests that went on to a model's fallback, by what the one before did.", "from", "to", "reason"),
		tokensTotal: counter("gateway_llm_tokens_total",
			"Tokens of prompts (input) and answers (output), as far as engines tell them.", "consumer", "model", "direction"),
		cut: counter("gateway_stream_cut_total",
			"Answers that ended before their end: by the engine, the client (gone) or us (key revoked, time limit).",
			"consumer", "model", "by"),
		finish: counter("gateway_llm_finish_total", "Answers by the reason why the engine stopped.",
			"consumer", "model", "reason"),
		refused: counter("gateway_llm_refused_total", "Requests of known consumers that were refused, by error code.",
			"consumer", "code"),
		authFailures: counter("gateway_auth_failures_total", "Requests without a valid key, by error code.", "code"),
		consumersFileOK: gauge("gateway_consumers_file_ok",
			"1 while the consumers file is readable and good, else 0 (the last good one is in force)."),
		consumersLoaded: gauge("gateway_consumers_file_loaded_timestamp_seconds", "When the consumers file in force was read."),
		consumers:       gauge("gateway_consumers", "Consumers in force."),
		consumersLoads:  counter("gateway_consumers_file_loads_total", "Changes of the consumers file, taken or refused.", "result"),
	}
}

// register adds the metrics to a registry, once.
func (m *metricSet) register(registry *prometheus.Registry) error {
	if registry == nil {
		return errors.New("there is no metrics registry")
	}
	for _, collector := range []prometheus.Collector{
		m.firstToken, m.perToken, m.duration, m.tokens, m.gap, m.requests, m.cut, m.finish, m.refused,
		m.authFailures, m.inFlight, m.engineInFlight, m.engineHealthy, m.retries, m.fallbacks, m.tokensTotal, m.consumersFileOK, m.consumersLoaded, m.consumers, m.consumersLoads,
	} {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(collector); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// finishReasons are the reasons that become a label; others are "other".
var finishReasons = map[string]string{
	"stop": "stop", "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls",
	"content_filter": "content_filter", "load": "load", "unload": "unload",
	"completed": "stop", "incomplete": "length", "failed": "failed",
}

func finishLabel(reason string) string {
	if label, known := finishReasons[reason]; known {
		return label
	}
	return "other"
}

// observe books one finished request.
func (m *metricSet) observe(c *call, now time.Time) {
	who, model, op := c.sess.consumer.Name, c.model.ID, c.op.name
	t := c.tap
	m.requests.WithLabelValues(who, model, op, strconv.Itoa(t.status)).Inc()
	m.duration.WithLabelValues(who, model, op).Observe(now.Sub(c.sess.started).Seconds())
	if by := c.cutBy(); by != "" {
		m.cut.WithLabelValues(who, model, by).Inc()
	}
	if t.finish != "" {
		m.finish.WithLabelValues(who, model, finishLabel(t.finish)).Inc()
	}
	if t.input >= 0 {
		m.tokens.WithLabelValues(who, model, op, "input").Observe(float64(t.input))
		m.tokensTotal.WithLabelValues(who, model, "input").Add(float64(t.input))
	}
	output := t.outputTokens()
	if output > 0 || t.output == 0 {
		m.tokens.WithLabelValues(who, model, op, "output").Observe(float64(output))
		m.tokensTotal.WithLabelValues(who, model, "output").Add(float64(output))
	}
	if t.streamed && t.pieces > 0 {
		m.firstToken.WithLabelValues(who, model, op).Observe(t.first.Sub(c.sess.started).Seconds())
		if output > 1 && t.pieces > 1 {
			m.perToken.WithLabelValues(who, model, op).Observe(t.last.Sub(t.first).Seconds() / float64(output-1))
		}
	}
}

// seriesKept is how long the series of a consumer outlive it: long enough that a
// scraper gets the last figures.
const seriesKept = 10 * time.Minute

// series knows whose series there may be, so that those of consumers that are gone do
// not pile up.
type series struct {
	seen map[string]time.Time // when each was last in the file
}

// follow takes note of who is in the file now, and drops the series of those who have
// not been for a while.
func (s *series) follow(present map[string]*consumer, now time.Time) {
	if s.seen == nil {
		s.seen = make(map[string]time.Time, len(present))
	}
	for name := range present {
		s.seen[name] = now
	}
	for name, last := range s.seen {
		if now.Sub(last) > seriesKept {
			metrics.forget(name)
			delete(s.seen, name)
		}
	}
}

// forget drops the series of a consumer.
func (m *metricSet) forget(consumer string) {
	of := prometheus.Labels{"consumer": consumer}
	for _, histogram := range []*prometheus.HistogramVec{m.firstToken, m.perToken, m.duration, m.tokens} {
		histogram.DeletePartialMatch(of)
	}
	for _, counter := range []*prometheus.CounterVec{m.requests, m.cut, m.finish, m.refused, m.tokensTotal} {
		counter.DeletePartialMatch(of)
	}
}
