// product-inl.h, compiled per target and exported.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/product.cpp"
#include "kernels/product.hpp"

#include "kernels/dispatch.hpp"

#include "hwy/foreach_target.h"

#include "kernels/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attune::kernels::HWY_NAMESPACE {

void add_product_f32(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
                     std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, Upcoming* ahead) {
  product_into<Into::add>(m, n, k, a, am, ak, b, bk, c, cm, static_cast<float*>(nullptr), ahead);
}
void add_product_f64(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
                     std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, Upcoming* ahead) {
  product_into<Into::add>(m, n, k, a, am, ak, b, bk, c, cm, static_cast<double*>(nullptr), ahead);
}
void product_f32(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
                 std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, Upcoming* ahead) {
  product_into<Into::overwrite>(m, n, k, a, am, ak, b, bk, c, cm, static_cast<float*>(nullptr), ahead);
}
void product_f64(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
                 std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, Upcoming* ahead) {
  product_into<Into::overwrite>(m, n, k, a, am, ak, b, bk, c, cm, static_cast<double*>(nullptr), ahead);
}
void rescale_product_f32(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
                         std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, const float* factor, Upcoming* ahead) {
  product_into<Into::rescale>(m, n, k, a, am, ak, b, bk, c, cm, const_cast<float*>(factor), ahead);  // it is only read
}
void rescale_product_f64(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
                         std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, const double* factor, Upcoming* ahead) {
  product_into<Into::rescale>(m, n, k, a, am, ak, b, bk, c, cm, const_cast<double*>(factor), ahead);  // it is only read
}

}  // namespace attune::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attune::kernels {

void add_product(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
                 std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, Upcoming* ahead) {
  ATTUNE_DISPATCH(add_product_f32)(m, n, k, a, am, ak, b, bk, c, cm, ahead);
}
void add_product(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
                 std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, Upcoming* ahead) {
  ATTUNE_DISPATCH(add_product_f64)(m, n, k, a, am, ak, b, bk, c, cm, ahead);
}
void product(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
             std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, Upcoming* ahead) {
  ATTUNE_DISPATCH(product_f32)(m, n, k, a, am, ak, b, bk, c, cm, ahead);
}
void product(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
             std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, Upcoming* ahead) {
  ATTUNE_DISPATCH(product_f64)(m, n, k, a, am, ak, b, bk, c, cm, ahead);
}
void rescale_product(int m, int n, int k, const float* a, std::ptrdiff_t am, std::ptrdiff_t ak, const float* b,
                     std::ptrdiff_t bk, float* c, std::ptrdiff_t cm, const float* factor, Upcoming* ahead) {
  ATTUNE_DISPATCH(rescale_product_f32)(m, n, k, a, am, ak, b, bk, c, cm, factor, ahead);
}
void rescale_product(int m, int n, int k, const double* a, std::ptrdiff_t am, std::ptrdiff_t ak, const double* b,
                     std::ptrdiff_t bk, double* c, std::ptrdiff_t cm, const double* factor, Upcoming* ahead) {
  ATTUNE_DISPATCH(rescale_product_f64)(m, n, k, a, am, ak, b, bk, c, cm, factor, ahead);
}

}  // namespace attune::kernels
#endif
