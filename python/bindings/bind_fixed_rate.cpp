#include <pybind11/stl.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "convert.hpp"
#include "keystep/fixed_rate.hpp"
#include "keystep/shared_arrays.hpp"
#include "observation_reader.hpp"

namespace keystep::python {
namespace {
using namespace py::literals;

/// Runs on a thread of its own, so that what it is given ends with it; the caller waits, and handles signals.
class PyFixedRate {
 public:
  PyFixedRate(py::object runtime, py::handle rate_hz, py::handle periods, py::handle fifo_priority,
              const py::sequence& cores, py::handle lock_memory, py::handle prefault_stack)
      : owner_(std::move(runtime)),
        runtime_(runtime_of(owner_)),
        reader_(runtime_.bundle().observation),
        clock_(runtime_, number(rate_hz, "rate_hz"),
               {.periods = integer<std::uint64_t>(periods, "periods"),
                .thread = {.fifo_priority = integer<int>(fifo_priority, "fifo_priority"),
                           .cores = integers(cores),
                           .lock_memory = flag(lock_memory, "lock_memory"),
                           .prefault_stack = integer<std::size_t>(prefault_stack, "prefault_stack")}}) {}

  /// Each a callable or SharedArrays. Raises what they raise, and what a signal's handler raises.
  void run(const py::object& source, const py::object& sink) {
    const Source from = source_of(source);
    const Sink to = sink_of(sink);
    Waiter waiter;
    std::exception_ptr failure;
    std::thread thread([&] {
      {
        const py::gil_scoped_acquire state;  // one for all calls: it outlives each of them
        const py::gil_scoped_release release;
        try {
          clock_.run(from, to);
        } catch (...) {
          failure = std::current_exception();
        }
      }
      waiter.done();
    });
    const bool raised = !wait(waiter);
    {
      const py::gil_scoped_release release;
      thread.join();
    }
    read_ = {};
    if (raised) throw py::error_already_set();
    if (failure) std::rethrow_exception(failure);
  }

  void stop() noexcept { clock_.stop(); }
  RunReport report() const { return clock_.report(); }

 private:
  class Waiter {
   public:
    void done() {
      const std::lock_guard lock(mutex_);
      done_ = true;
      changed_.notify_one();
    }
    bool wait() {
      std::unique_lock lock(mutex_);
      return changed_.wait_for(lock, std::chrono::milliseconds(50), [this] { return done_; });
    }

   private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool done_ = false;
  };

  static std::vector<int> integers(const py::sequence& given) {
    std::vector<int> all;
    for (const py::handle value : given) all.push_back(integer<int>(value, "cores"));
    return all;
  }

  /// False: a handler raised, which is pending; the run is being stopped.
  bool wait(Waiter& waiter) {
    for (;;) {
      {
        const py::gil_scoped_release release;
        if (waiter.wait()) return true;
      }
      if (PyErr_CheckSignals() != 0) return clock_.stop(), false;
    }
  }

  Source source_of(const py::object& source) {
    if (py::isinstance<SharedArrays>(source)) {
      auto& arrays = py::cast<SharedArrays&>(source);
      return shared_source(arrays, runtime_.bundle());
    }
    return [this, source](Observation& observation) {
      const py::gil_scoped_acquire gil;
      const py::object seen = source();
      read_ = reader_.read(seen, "source: ");
      observation = read_.view();
      return Status::ok;
    };
  }

  Sink sink_of(const py::object& sink) {
    if (py::isinstance<SharedArrays>(sink)) {
      return shared_sink(py::cast<SharedArrays&>(sink), runtime_.bundle());
    }
    return [sink](std::span<const float> action, Status status) {
      const py::gil_scoped_acquire gil;
      sink(py::array_t<float>(std::ssize(action), action.data()), status_name(status));
      return Status::ok;
    };
  }

  const py::object owner_;
  Runtime& runtime_;
  const ObservationReader reader_;
  ReadObservation read_;  // of the period of now; touched with the GIL
  FixedRate clock_;
};

py::dict spread_dict(const Spread& spread) {
  return py::dict("count"_a = spread.count, "min_us"_a = spread.min_us, "avg_us"_a = spread.avg_us,
                  "p99_us"_a = spread.p99_us, "max_us"_a = spread.max_us);
}

py::dict thread_dict(const ThreadReport& thread) {
  return py::dict("policy"_a = thread.policy, "priority"_a = thread.priority,
                  "cores"_a = py::tuple(py::cast(thread.cores)), "memory_locked"_a = thread.memory_locked,
                  "prefaulted"_a = thread.prefaulted, "fifo_refusal"_a = thread.fifo_refusal,
                  "cores_refusal"_a = thread.cores_refusal, "memory_refusal"_a = thread.memory_refusal,
                  "stack_refusal"_a = thread.stack_refusal);
}

py::tuple triple(const std::array<double, 3>& values) {
  return py::make_tuple(values[0], values[1], values[2]);
}

py::dict report_dict(PyFixedRate& self) {
  const RunReport report = self.report();
  py::dict statuses;
  for (int i = 0; i < kStatuses; ++i) {
    statuses[status_name(static_cast<Status>(i))] = report.statuses[static_cast<std::size_t>(i)];
  }
  return py::dict("rate_hz"_a = report.rate_hz, "periods"_a = report.periods, "overruns"_a = report.overruns,
                  "skipped"_a = report.skipped, "withheld"_a = report.withheld, "statuses"_a = statuses,
                  "latency"_a = spread_dict(report.latency), "interval"_a = spread_dict(report.interval),
                  "work"_a = spread_dict(report.work), "minor_faults"_a = report.minor_faults,
                  "major_faults"_a = report.major_faults, "voluntary_switches"_a = report.voluntary_switches,
                  "involuntary_switches"_a = report.involuntary_switches,
                  "load_before"_a = triple(report.load_before), "load_after"_a = triple(report.load_after),
                  "thread"_a = thread_dict(report.thread));
}

}  // namespace

void bind_fixed_rate(py::module_& module) {
  py::class_<PyFixedRate>(module, "FixedRate", "The clock of `keystep.Runtime.run`.")
      .def(py::init<py::object, py::handle, py::handle, py::handle, const py::sequence&, py::handle,
                    py::handle>(),
           py::arg("runtime"), py::arg("rate_hz"), py::arg("periods"), py::arg("fifo_priority"),
           py::arg("cores"), py::arg("lock_memory"), py::arg("prefault_stack"))
      .def("run", &PyFixedRate::run, py::arg("source"), py::arg("sink"))
      .def("stop", &PyFixedRate::stop)
      .def("report", &report_dict);
}

}  // namespace keystep::python
