"""Gradients in ten lines."""

import minidl as dl

x = dl.Tensor([[1.0, 2.0, 3.0]], requires_grad=True)  # shape (1, 3)
w = dl.Tensor([[0.5], [-1.0], [0.25]], requires_grad=True)  # shape (3, 1)

y = dl.ops.tanh(x @ w + 1.0)  # a graph is recorded while Python runs
y.backward()  # d y / d x and d y / d w, by the chain rule

print("y      ", y.data)  # [[0.24491866]]
print("dy/dx  ", x.grad)  # [[ 0.47000742 -0.94001484  0.23500371]]
print("dy/dw.T", w.grad.T)  # [[0.94001484 1.8800297  2.8200445 ]]
