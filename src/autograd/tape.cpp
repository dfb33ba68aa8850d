// Recording, and the walk back: a heap of nodes by age, youngest first, so that all consumers of a result have run
// before its maker does.
#include "attune/autograd/tape.hpp"

#include <algorithm>
#include <atomic>

#include "autograd/impl.hpp"

namespace attune {
namespace {

thread_local bool recording = true;
std::atomic<std::uint64_t> next_id{1};

bool younger_last(const std::shared_ptr<detail::Node>& a, const std::shared_ptr<detail::Node>& b) {
  return a->id < b->id;  // a max heap by id
}

/// The walk that runs on this thread: nodes that have received a gradient and have not run.
thread_local std::vector<std::shared_ptr<detail::Node>>* walk = nullptr;

void enqueue(const std::shared_ptr<detail::Node>& node) {
  if (node->queued) return;
  if (node->ran) {
    fail("backward", "a graph that no backward() has used",
         "that of \"" + std::string(node->name) + "\" has been freed by an earlier one");
  }
  node->queued = true;
  walk->push_back(node);
  std::push_heap(walk->begin(), walk->end(), younger_last);
}

const detail::Edge& wanted(const detail::Node& node, int input) {
  const detail::Edge& edge = node.inputs[std::size_t(input)];
  if (!edge.wants()) {
    fail(node.name, "a gradient only for inputs that want one", "input " + std::to_string(input) + " does not");
  }
  return edge;
}

}  // namespace

bool grad_enabled() { return recording; }
NoGrad::NoGrad() : before_(recording) { recording = false; }
NoGrad::~NoGrad() { recording = before_; }

bool will_record(std::initializer_list<std::reference_wrapper<const Tensor>> inputs) {
  return recording && std::any_of(inputs.begin(), inputs.end(), [](const Tensor& t) { return t.needs_grad(); });
}

void record(std::string_view name, std::initializer_list<Tensor> outputs, std::span<const Tensor> inputs,
            BackwardFunction backward) {
  if (!recording || std::none_of(inputs.begin(), inputs.end(), [](const Tensor& t) { return t.needs_grad(); })) return;
  auto node = std::make_shared<detail::Node>();
  node->id = next_id.fetch_add(1, std::memory_order_relaxed);
  node->name = name;
  node->inputs.reserve(inputs.size());
  for (const Tensor& t : inputs) {
    detail::Edge edge;
    if (t.defined() && t.impl()->node) {
      edge.node = t.impl()->node;
      edge.output = t.impl()->output;
    } else if (t.is_leaf()) {
      edge.leaf = t.impl();
    }
    node->inputs.push_back(std::move(edge));
  }
  node->backward = std::move(backward);
  int i = 0;
  for (const Tensor& t : outputs) {
    node->outputs.push_back({t.defined() ? t.shape() : Shape(), t.defined() ? t.dtype() : DType::float32, Tensor()});
    if (t.defined()) {
      t.impl()->node = node;
      t.impl()->output = i;
    }
    ++i;
  }
}

// --- what a backward function sees -----------------------------------------------------------------------------------

bool Backward::has_dout(int output) const { return node_.outputs[std::size_t(output)].grad.defined(); }
Tensor Backward::dout(int output) const {
  if (!has_dout(output)) fail(node_.name, "an incoming gradient", "output " + std::to_string(output) + " has none");
  return node_.outputs[std::size_t(output)].grad;
}
bool Backward::wants(int input) const { return node_.inputs[std::size_t(input)].wants(); }

GradientSlot Backward::slot(int input) {
  const detail::Edge& edge = wanted(node_, input);
  if (edge.leaf) {
    Tensor& grad = edge.leaf->grad;
    const bool there = grad.defined();
    if (!there) grad = Tensor::empty(edge.leaf->shape, edge.leaf->dtype);
    return {grad, there};
  }
  enqueue(edge.node);
  auto& out = edge.node->outputs[std::size_t(edge.output)];
  if (!out.grad) {
    out.grad = Tensor::empty(out.shape, out.dtype);
    return {out.grad, false};
  }
  // Memory that was handed through from elsewhere may still be read there: it is copied before the first addition.
  if (out.grad.impl()->storage.use_count() > 1) out.grad = out.grad.clone();
  return {out.grad, true};
}

Tensor Backward::zeroed_slot(int input) {
  GradientSlot s = slot(input);
  if (!s.accumulate) s.memory.fill(0);
  return s.memory;
}

void Backward::give(int input, const Tensor& gradient) {
  const detail::Edge& edge = wanted(node_, input);
  if (edge.leaf) {
    if (edge.leaf->grad) {
      detail::accumulate(edge.leaf->grad, gradient);
    } else {
      const bool only = gradient.impl()->storage.use_count() == 1;  // leaves add in place, so theirs must be their own
      edge.leaf->grad = detail::alias(only ? gradient : gradient.clone(), edge.leaf->shape);
    }
    return;
  }
  const auto& out = edge.node->outputs[std::size_t(edge.output)];
  if (out.grad) {
    GradientSlot s = slot(input);
    detail::accumulate(s.memory, gradient);
  } else {
    enqueue(edge.node);
    edge.node->outputs[std::size_t(edge.output)].grad = detail::alias(gradient, out.shape);
  }
}

// --- the walk --------------------------------------------------------------------------------------------------------

void Tensor::backward() const {
  if (defined() && size() != 1) {
    fail("backward", "a tensor of one element, or an incoming gradient", "shape is " + shape().text());
  }
  backward(defined() ? Tensor::ones(shape(), dtype()) : Tensor());
}

void Tensor::backward(const Tensor& dout) const {
  if (!needs_grad()) {
    fail("backward", "the result of operators on tensors that want a gradient",
         defined() ? "this tensor has no history" : "this tensor is undefined");
  }
  if (!(dout.shape() == shape()) || dout.dtype() != dtype()) {
    fail("backward", "an incoming gradient of shape " + shape().text() + " and " + std::string(name_of(dtype())),
         "got " + dout.shape().text() + " and " + std::string(name_of(dout.dtype())));
  }
  if (!impl_->node) {  // a leaf: its gradient with respect to itself
    Tensor& grad = impl_->grad;
    if (grad)
      detail::accumulate(grad, dout);
    else
      grad = dout.clone();
    return;
  }
  if (walk != nullptr) fail("backward", "one walk at a time on a thread", "called from inside of a backward function");

  NoGrad no_grad;
  std::vector<std::shared_ptr<detail::Node>> pending;
  struct Walk {  // however the walk ends, nodes that it did not reach forget what they were given
    std::shared_ptr<detail::Node> running;
    explicit Walk(std::vector<std::shared_ptr<detail::Node>>* nodes) { walk = nodes; }
    ~Walk() {
      if (running) walk->push_back(std::move(running));
      for (auto& node : *walk) {
        node->queued = false;
        for (auto& out : node->outputs) out.grad = Tensor();
      }
      walk = nullptr;
    }
  } guard(&pending);

  enqueue(impl_->node);
  impl_->node->outputs[std::size_t(impl_->output)].grad = detail::alias(dout, shape());
  while (!pending.empty()) {
    std::pop_heap(pending.begin(), pending.end(), younger_last);
    guard.running = std::move(pending.back());
    pending.pop_back();
    detail::Node& node = *guard.running;
    node.queued = false;
    Backward context(node);
    node.backward(context);
    node.ran = true;
    for (auto& out : node.outputs) out.grad = Tensor();
    node.free();
    guard.running.reset();
  }
}

void detail::Node::free() {
  backward = nullptr;
  // Edges are parted with one node at a time: a long chain would otherwise be destroyed by recursion.
  thread_local std::vector<std::shared_ptr<Node>>* parting = nullptr;
  if (parting != nullptr) {
    for (Edge& edge : inputs) {
      if (edge.node) parting->push_back(std::move(edge.node));
    }
    inputs.clear();
    return;
  }
  std::vector<std::shared_ptr<Node>> nodes;
  parting = &nodes;
  for (Edge& edge : inputs) {
    if (edge.node) nodes.push_back(std::move(edge.node));
  }
  inputs.clear();
  while (!nodes.empty()) {
    const std::shared_ptr<Node> node = std::move(nodes.back());
    nodes.pop_back();  // `node` dies here if nobody else holds it; its own edges then join the list
  }
  parting = nullptr;
}
detail::Node::~Node() { free(); }

}  // namespace attune
