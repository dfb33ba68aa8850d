// How fast attention is, as a share of what this machine can do: attend_forward and attend_backward on the shapes that
// public benchmarks use, full and causal. The multiply-add peak is measured right before each sample, on as many
// threads; samples of all rows are interleaved, so that a disturbance spreads over all of them. One thread is timed by
// its processor time, so that other programs on the machine count less; several by the clock on the wall.
//
//   attention_bench [--shapes ABCDEF] [--threads 1] [--rounds 9] [--f64] [--dropout P] [--json FILE]
//
// F is decoding, one query: bound by reading keys and values, so its share is of the rate at which memory of that size
// is read, measured right before. All others:
// GFLOP/s counts 2 (D + Dv) per visible pair and head (half of all pairs where causal), 2.5 times that backward.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attune/attention/attention.hpp"
#include "attune/base/error.hpp"
#include "attune/base/parallel.hpp"
#include "attune/base/rng.hpp"
#include "attune/io/atomic_file.hpp"
#include "ceilings.hpp"

namespace {
using namespace attune;

struct Setup {
  std::string shapes = "ABDE", json;
  int threads = 1, rounds = 9;
  bool f64 = false;
  double dropout = 0;
};

/// Name, B, H, Hkv, Tq, Tk, D = Dv.
struct Problem {
  char name;
  int batch, heads, kv_heads, queries, keys, width;
  bool decodes() const { return queries == 1; }
};
constexpr Problem kProblems[] = {{'A', 1, 8, 8, 1024, 1024, 64}, {'B', 4, 12, 12, 512, 512, 64},
                                 {'C', 1, 8, 8, 4096, 4096, 64}, {'D', 1, 8, 8, 2048, 2048, 128},
                                 {'E', 32, 8, 8, 128, 128, 32},  {'F', 1, 32, 8, 1, 8192, 128}};

/// Memory of one problem, filled with numbers of size 1.
struct Arrays {
  std::vector<std::byte> memory[9];  // query key value out lse dout dquery dkey dvalue
  View view[9];
  Arrays(const Problem& p, DType type) {
    const Shape rows{p.batch, p.heads, p.queries, p.width}, numbers{p.batch, p.heads, p.queries},
        keys{p.batch, p.kv_heads, p.keys, p.width};
    Generator generator(1);
    for (int i = 0; i < 9; ++i) {
      const Shape shape = i == 4 ? numbers : i == 1 || i == 2 || i >= 7 ? keys : rows;
      memory[i].resize(std::size_t(shape.size()) * size_of(type));
      view[i] = View(memory[i].data(), type, shape);
      for (std::int64_t e = 0; e < shape.size(); ++e) {
        const double x = generator.uniform(-1.7, 1.7);
        if (type == DType::float32)
          reinterpret_cast<float*>(memory[i].data())[e] = float(x);
        else
          reinterpret_cast<double*>(memory[i].data())[e] = x;
      }
    }
  }
};

/// GFLOP/s of all threads together.
double peak(const Setup& setup) {
  std::vector<double> rate(std::size_t(setup.threads));
  parallel_for(setup.threads, [&](std::int64_t t) { rate[std::size_t(t)] = bench::fma_peak_once(setup.f64); });
  double sum = 0;
  for (double r : rate) sum += r;
  return sum;
}

/// GB/s at which all threads together read two arrays.
double read_rate(const Setup& setup, const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  const double start = setup.threads == 1 ? bench::thread_seconds() : bench::now();
  std::vector<double> sums(std::size_t(setup.threads));
  parallel_for(setup.threads, [&](std::int64_t t) {
    float lane[32] = {};
    for (const auto* memory : {&a, &b}) {
      const std::size_t n = memory->size() / sizeof(lane) / std::size_t(setup.threads);
      const float* x = reinterpret_cast<const float*>(memory->data()) + std::size_t(t) * n * 32;
      for (std::size_t i = 0; i < n; ++i) {
        for (int l = 0; l < 32; ++l) lane[l] += x[i * 32 + std::size_t(l)];
      }
    }
    for (float x : lane) sums[std::size_t(t)] += double(x);
  });
  const double seconds = (setup.threads == 1 ? bench::thread_seconds() : bench::now()) - start;
  volatile double sum = 0;  // read, so that the loops stay
  for (double x : sums) sum = sum + x;
  return double(a.size() + b.size()) / seconds * 1e-9;
}

struct Row {
  const Problem* problem;
  bool causal, backward;
  std::size_t arrays;
  std::vector<double> rate, share;
};

Setup read(int argc, char** argv) {
  Setup setup;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] {
      if (++i == argc) fail("attention_bench", "a value after " + word, "got none");
      return std::string(argv[i]);
    };
    if (word == "--shapes")
      setup.shapes = value();
    else if (word == "--threads")
      setup.threads = std::max(1, std::atoi(value().c_str()));
    else if (word == "--rounds")
      setup.rounds = std::max(1, std::atoi(value().c_str()));
    else if (word == "--f64")
      setup.f64 = true;
    else if (word == "--dropout")
      setup.dropout = std::atof(value().c_str());
    else if (word == "--json")
      setup.json = value();
    else
      fail("attention_bench", "--shapes, --threads, --rounds, --f64, --dropout or --json", "got " + word);
  }
  return setup;
}

void run(const Setup& setup) {
  set_num_threads(setup.threads);
  std::vector<Row> rows;
  std::vector<Arrays> arrays;
  const DType type = setup.f64 ? DType::float64 : DType::float32;
  for (const Problem& p : kProblems) {
    if (setup.shapes.find(p.name) == std::string::npos) continue;
    arrays.emplace_back(p, type);
    for (bool causal : {false, true}) {
      for (bool backward : {false, true}) {
        if (!p.decodes() || (!causal && !backward)) rows.push_back({&p, causal, backward, arrays.size() - 1, {}, {}});
      }
    }
  }
  for (int round = -1; round < setup.rounds; ++round) {  // round -1 warms up
    for (Row& row : rows) {
      const Problem& p = *row.problem;
      View* v = arrays[row.arrays].view;
      AttendOptions options{.dropout_p = setup.dropout, .seed = 1};
      if (row.causal) options.mask = Causal{};
      const AttendInputs in{v[0], v[1], v[2], {}};
      const auto once = [&] {
        if (row.backward) {
          attend_backward(in, {.out = v[3], .lse = v[4], .dout = v[5]}, {.query = v[6], .key = v[7], .value = v[8]},
                          options);
        } else {
          attend_forward(in, {.out = v[3], .lse = v[4]}, options);
        }
      };
      const double pairs = double(p.batch) * p.heads * p.queries * p.keys * (row.causal ? 0.5 : 1);
      const double flops = 4 * pairs * p.width * (row.backward ? 2.5 : 1);
      if (!row.backward) once();  // the caches of another shape's round are gone; a backward needs this one's lse
      const auto& memory = arrays[row.arrays].memory;
      const double ceiling = p.decodes() ? read_rate(setup, memory[1], memory[2]) : peak(setup);
      const int repeats = 1 + int(2e9 / flops);
      const auto clock = [&] { return setup.threads == 1 ? bench::thread_seconds() : bench::now(); };
      const double start = clock();
      for (int i = 0; i < repeats; ++i) once();
      const double rate = flops * repeats / (clock() - start) * 1e-9;
      if (round < 0) continue;
      row.rate.push_back(rate);
      const double bytes = double(memory[1].size() + memory[2].size());
      if (ceiling > 0) row.share.push_back((p.decodes() ? rate * bytes / flops : rate) / ceiling);
    }
  }
  std::printf("%s, %s, %d thread%s, %s%s\n", cpu_info().model.c_str(), std::string(name_of(cpu_target())).c_str(),
              setup.threads, setup.threads == 1 ? "" : "s", std::string(name_of(type)).c_str(),
              setup.dropout > 0 ? ", dropout" : "");
  std::printf("shape                        what               GFLOP/s   share of peak: median, lowest, highest\n");
  nlohmann::json json = nlohmann::json::array();
  for (const Row& row : rows) {
    const Problem& p = *row.problem;
    const auto least = [](const std::vector<double>& x) {
      return x.empty() ? 0 : *std::min_element(x.begin(), x.end());
    };
    const auto most = [](const std::vector<double>& x) {
      return x.empty() ? 0 : *std::max_element(x.begin(), x.end());
    };
    std::printf("%c (%2d, %2d, %4d, %4d, %3d)  %-6s %-8s  %9.1f   %14.3f  %6.3f  %6.3f\n", p.name, p.batch, p.heads,
                p.queries, p.keys, p.width, row.causal ? "causal" : "full", row.backward ? "backward" : "forward",
                bench::median(row.rate), bench::median(row.share), least(row.share), most(row.share));
    json.push_back({{"shape", std::string(1, p.name)},
                    {"causal", row.causal},
                    {"backward", row.backward},
                    {"gflops", bench::median(row.rate)},
                    {"share_of_peak", bench::median(row.share)},
                    {"share_lowest", least(row.share)},
                    {"share_highest", most(row.share)}});
  }
  if (!setup.json.empty()) {
    io::write_file(setup.json, nlohmann::json{{"cpu", cpu_info().model},
                                              {"target", name_of(cpu_target())},
                                              {"threads", setup.threads},
                                              {"dtype", name_of(type)},
                                              {"dropout", setup.dropout},
                                              {"rows", json}}
                                   .dump(2));
  }
}
}  // namespace

int main(int argc, char** argv) {
  try {
    run(read(argc, argv));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
