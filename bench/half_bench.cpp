// How fast attention is on half types: attend_forward and attend_backward in bfloat16 and float16 beside float32 on the
// shapes of attention_bench. Where bfloat16 is multiplied in pairs its rows are read against that peak, twice the
// other; all else computes in float32 and is read against the peak of float32, so shares compare with those of float32
// above.
#include "attention_rows.hpp"
#include "runner.hpp"

int main(int argc, char** argv) {
  using namespace attune;
  bench::Bench rows("half_bench");
  for (DType dtype : {DType::float32, DType::bfloat16, DType::float16}) {
    for (char name : {'A', 'B', 'C', 'D', 'E'}) {
      for (bool causal : {false, true}) {
        for (bool backward : {false, true}) {
          const bool pairs = dtype == DType::bfloat16 && cpu_uses_bf16();
          rows.add(attention_row(bench::problem(name), {.mask = causal ? AnyMask(Causal{}) : AnyMask()},
                                 {.backward = backward,
                                  .causal = causal,
                                  .dtype = dtype,
                                  .ceiling = pairs ? bench::Ceiling::fma_bf16 : bench::Ceiling::fma_f32}));
        }
      }
    }
  }
  return rows.run(argc, argv);
}
