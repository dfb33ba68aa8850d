// Measures the rows of one benchmark program:
//
//   PROGRAM [--rounds 9] [--threads 1] [--only WORDS] [--least MS] [--json FILE] [--list] [--serve]
//
// --only keeps the rows whose name contains one of the comma-separated words; a word may be several joined with "+",
// of which all must occur: --only "A+forward,E". Samples of all rows are interleaved, so that a disturbance spreads
// over all of them; medians are printed, and beside them the distance of the quartiles. "x plain" is the median over
// the rounds of this row's time over that of the plain row of the same shape, pass, mask and type (plain rows of
// another type: over float32).
//
// --serve answers lines on standard input, so that another program can interleave these rows with its own:
//   rows             {"machine": {...}, "rows": [...]}
//   time ROW MS      one sample {"ms", "ceiling", "calls"} of at least MS milliseconds
//   memory ROW       {"bytes"}: how far the process's resident memory rises during the first call
//   drop ROW         frees the arrays of the row
//   ceilings         {"fma_float32", ...} of one core and of all threads
#pragma once
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "attune/base/error.hpp"
#include "attune/io/atomic_file.hpp"
#include "rows.hpp"

namespace attune::bench {

class Bench {
 public:
  using Json = nlohmann::ordered_json;
  explicit Bench(std::string name) : name_(std::move(name)) {}
  void add(Row row) { rows_.push_back(std::move(row)); }

  /// Reads the options and does what they say. Returns what main should.
  int run(int argc, char** argv) {
    try {
      read(argc, argv);
      set_num_threads(threads_);
      choose();
      calls_.resize(rows_.size());
      if (list_) {
        for (const Row& row : rows_) std::printf("%s\n", row.name().c_str());
      } else if (serve_) {
        serve();
      } else {
        measure_all();
      }
      return 0;
    } catch (const std::exception& e) {
      std::fprintf(stderr, "%s\n", e.what());
      return 1;
    }
  }

 private:
  std::string name_, only_, json_;
  int threads_ = 1, rounds_ = 9;
  double least_ms_ = 20;
  bool list_ = false, serve_ = false;
  std::vector<Row> rows_;
  std::vector<Call> calls_;  // empty where not prepared

  void read(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string word = argv[i];
      const auto value = [&] {
        if (++i == argc) fail(name_, "a value after " + word, "got none");
        return std::string(argv[i]);
      };
      if (word == "--rounds")
        rounds_ = std::max(1, std::atoi(value().c_str()));
      else if (word == "--threads")
        threads_ = std::max(1, std::atoi(value().c_str()));
      else if (word == "--only")
        only_ = value();
      else if (word == "--least")
        least_ms_ = std::atof(value().c_str());
      else if (word == "--json")
        json_ = value();
      else if (word == "--list")
        list_ = true;
      else if (word == "--serve")
        serve_ = true;
      else
        fail(name_, "--rounds, --threads, --only, --least, --json, --list or --serve", "got " + word);
    }
  }

  /// Drops the rows that --only or the number of threads leaves out.
  void choose() {
    const auto wanted = [&](const Row& row) {
      if (threads_ > row.most_threads) return false;
      if (only_.empty()) return true;
      const std::string name = " " + row.name();
      std::stringstream words(only_);
      for (std::string word; std::getline(words, word, ',');) {
        std::stringstream parts(word);
        bool all = true;
        for (std::string part; std::getline(parts, part, '+');) all = all && name.find(" " + part) != std::string::npos;
        if (all) return true;
      }
      return false;
    };
    std::vector<Row> chosen;
    for (Row& row : rows_) {
      if (wanted(row)) chosen.push_back(std::move(row));
    }
    rows_ = std::move(chosen);
    if (rows_.empty() && !serve_ && !list_)
      fail(name_, "--only to leave at least one row (--list shows them)", "none left");
  }

  const Call& call(std::size_t i) {
    if (!calls_[i]) {
      calls_[i] = rows_[i].prepare();
      calls_[i]();  // first calls pay for pages, pools and tables
    }
    return calls_[i];
  }

  Json machine() const {
    const CpuInfo& cpu = cpu_info();
    return {{"cpu", cpu.model},           {"target", name_of(cpu_target())}, {"bf16", cpu.avx512_bf16},
            {"l1d_bytes", cpu.l1d_bytes}, {"l2_bytes", cpu.l2_bytes},        {"cores", cpu.cores},
            {"compiler", compiler()}};
  }
  static std::string compiler() {
#if defined(__clang__)
    return "clang " + std::to_string(__clang_major__);
#else
    return "g++ " + std::to_string(__GNUC__);
#endif
  }
  Json describe(const Row& row) const {
    return {{"shape", row.shape},   {"pass", row.pass},   {"variant", row.variant},
            {"causal", row.causal}, {"dtype", row.dtype}, {"threads", threads_}};
  }

  void measure_all() {
    std::vector<std::vector<Sample>> samples(rows_.size());
    for (int round = 0; round < rounds_; ++round) {
      for (std::size_t i = 0; i < rows_.size(); ++i) {
        const double last = samples[i].empty() ? 0 : samples[i].back().seconds;
        samples[i].push_back(sample(rows_[i], call(i), threads_, least_ms_ * 1e-3, last));
      }
    }
    std::printf("%s, %s, %d thread%s, medians of %d\n", cpu_info().model.c_str(),
                std::string(name_of(cpu_target())).c_str(), threads_, threads_ == 1 ? "" : "s", rounds_);
    std::printf("%-44s %10s %9s %7s %7s %7s\n", "", "ms", "GFLOP/s", "share", "spread", "x plain");
    Json out = Json::array();
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const Row& row = rows_[i];
      std::vector<double> seconds, shares, over_plain;
      const std::size_t plain = plain_of(row);
      for (std::size_t round = 0; round < samples[i].size(); ++round) {
        const Sample& s = samples[i][round];
        seconds.push_back(s.seconds);
        shares.push_back(share(row, s));
        if (plain != i && plain < rows_.size()) over_plain.push_back(s.seconds / samples[plain][round].seconds);
      }
      const double median = quantile(seconds, 0.5), work = row.ceiling == Ceiling::memory ? row.bytes : row.flops;
      const double ratio = quantile(over_plain, 0.5);
      std::printf("%-44s %10.3f %9.1f %7.3f %6.1f%%", row.name().c_str(), median * 1e3, work / median * 1e-9,
                  quantile(shares, 0.5), 100 * spread(seconds));
      std::printf(ratio > 0 ? " %7.3f\n" : "\n", ratio);
      Json json = describe(row);
      json.update(Json{{"ms", median * 1e3},
                       {"gflops", row.flops / median * 1e-9},
                       {"gbs", row.bytes / median * 1e-9},
                       {"share", quantile(shares, 0.5)},
                       {"spread", spread(seconds)}});
      json["flops"] = row.flops;
      if (row.visited > 0) json["visited"] = row.visited;
      if (ratio > 0) json["over_plain"] = ratio;
      out.push_back(std::move(json));
    }
    if (!json_.empty()) io::write_file(json_, Json{{"machine", machine()}, {"rounds", rounds_}, {"rows", out}}.dump(1));
  }
  /// The row that `row` is compared with: plain, of the same type; a plain row of another type with plain float32.
  std::size_t plain_of(const Row& row) const {
    Row plain = row;
    plain.variant = "plain";
    if (row.variant == "plain") plain.dtype = "float32";
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i].name() == plain.name()) return i;
    }
    return rows_.size();
  }

  /// Bytes of /proc/self/status's line `key`; 0 where there is none.
  static double status_bytes(const std::string& key) {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);) {
      if (line.rfind(key + ":", 0) == 0) return std::atof(line.c_str() + key.size() + 1) * 1024;
    }
    return 0;
  }

  Json ceilings() const {
    return {{"fma_float32", measure(Ceiling::fma_f32, threads_)},
            {"fma_float64", measure(Ceiling::fma_f64, threads_)},
            {"fma_bfloat16", measure(Ceiling::fma_bf16, threads_)},
            {"exp2", exp2_rate_once()},
            {"l2_read", l2_read_once()},
            {"memory_read", measure(Ceiling::memory, threads_)}};
  }

  void serve() {
    std::vector<double> last(rows_.size(), 0.0);
    for (std::string line; std::getline(std::cin, line);) {
      std::istringstream words(line);
      std::string verb;
      std::size_t i = 0;
      double ms = 0;
      words >> verb >> i >> ms;
      const bool takes_row = verb == "time" || verb == "memory" || verb == "drop";
      Json answer = Json::object();
      try {
        if (takes_row && i >= rows_.size()) fail(name_, "a row below " + std::to_string(rows_.size()), "got " + line);
        if (verb == "rows") {
          answer = {{"machine", machine()}, {"rows", Json::array()}};
          for (const Row& row : rows_) {
            Json json = describe(row);
            json.update(Json{{"extents", row.extents},
                             {"flops", row.flops},
                             {"bytes", row.bytes},
                             {"visited", row.visited},
                             {"memory_bound", row.ceiling == Ceiling::memory}});
            answer["rows"].push_back(std::move(json));
          }
        } else if (verb == "time") {
          const Sample s = sample(rows_[i], call(i), threads_, ms * 1e-3, last[i]);
          last[i] = s.seconds;
          answer = {{"ms", s.seconds * 1e3}, {"ceiling", s.ceiling}, {"calls", s.calls}};
        } else if (verb == "memory") {
          calls_[i] = rows_[i].prepare();
          std::ofstream("/proc/self/clear_refs") << 5;  // the high-water mark starts anew
          const double before = status_bytes("VmRSS");
          calls_[i]();
          answer = {{"bytes", status_bytes("VmHWM") - before}};
        } else if (verb == "drop") {
          calls_[i] = {};
        } else if (verb == "ceilings") {
          answer = ceilings();
        } else {
          fail(name_, "rows, time, memory, drop or ceilings", "got " + line);
        }
      } catch (const std::exception& e) {
        answer = {{"error", e.what()}};
      }
      std::cout << answer.dump() << std::endl;
    }
  }
};

}  // namespace attune::bench
